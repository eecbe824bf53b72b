// The page behind a reset link: sets a new password.
import { page } from '../http/page.js';

const script = `
const token = location.hash.slice(1);
history.replaceState(null, '', location.pathname);
const byId = (id) => document.getElementById(id);
const form = byId('form');
const message = byId('message');
const button = byId('submit');
const show = (id, heading) => { form.hidden = true; byId(id).hidden = false; byId(heading).focus(); };
const say = (text, field) => {
  message.textContent = text;
  for (const input of form.querySelectorAll('input')) input.removeAttribute('aria-invalid');
  const input = field ? form.elements.namedItem(field) : null;
  if (input) { input.setAttribute('aria-invalid', 'true'); input.focus(); }
};
if (!token) show('missing', 'missing-title');
form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const value = (name) => form.elements.namedItem(name).value;
  if (value('password') !== value('again')) return say('The two passwords differ.', 'again');
  button.disabled = true;
  say('');
  try {
    const answer = await fetch('api/v1/auth/reset', {
      method: 'POST', headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ token, password: value('password') }) });
    if (answer.ok) { form.reset(); show('done', 'done-title'); return; }
    const problem = await answer.json();
    if (problem.field === 'token') show('missing', 'missing-title');
    else if (['token_invalid', 'token_used', 'token_expired'].includes(problem.code)) show('over', 'over-title');
    else say(problem.detail, problem.field);
  } catch {
    say('The server cannot be reached. Try again in a moment.');
  } finally {
    button.disabled = false;
  }
});
`;

const body = `<form id="form" novalidate>
<h1>Set a new password</h1>
<p>All sessions of your account end with it; then sign in with the new password.</p>
<label for="password">New password</label>
<input id="password" name="password" type="password" autocomplete="new-password" minlength="12" maxlength="256" required
 autofocus aria-describedby="password-note">
<small id="password-note">At least 12 characters; a sentence is best.</small>
<label for="again">New password, once more</label>
<input id="again" name="again" type="password" autocomplete="new-password" maxlength="256" required>
<p id="message" role="alert"></p>
<button id="submit" type="submit">Set the password</button>
</form>
<section id="done" hidden>
<h1 id="done-title" tabindex="-1" class="done">Your password is set</h1>
<p>This link no longer works. Sign in with the new password.</p>
</section>
<section id="over" hidden>
<h1 id="over-title" tabindex="-1">This link works no more</h1>
<p>It was used, or it has expired. Ask for another one.</p>
</section>
<section id="missing" hidden>
<h1 id="missing-title" tabindex="-1">The link is incomplete</h1>
<p>Open the whole link that you were given; the part after <code>#</code> is the key.</p>
</section>
<noscript><p>This page needs JavaScript, because the key in the link never leaves your browser otherwise.</p></noscript>
`;

const reset = page('Set a new password', body, script);
export const resetPage = reset.html;
export const resetPagePolicy = reset.policy;
