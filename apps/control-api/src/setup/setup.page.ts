// The page behind the set-up link: makes the first owner.
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
fetch('api/v1/setup').then((answer) => answer.json()).then((state) => {
  if (!state.needed) show('over', 'over-title');
  else if (!token) show('missing', 'missing-title');
}).catch(() => say('The server cannot be reached. Try again in a moment.'));
form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const value = (name) => form.elements.namedItem(name).value;
  if (value('password') !== value('again')) return say('The two passwords differ.', 'again');
  button.disabled = true;
  say('');
  try {
    const body = { token, email: value('email'), password: value('password'), displayName: value('displayName') };
    if (value('tenantName').trim()) body.tenantName = value('tenantName').trim();
    const answer = await fetch('api/v1/setup', {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
    if (answer.ok) { form.reset(); byId('who').textContent = body.email; show('done', 'done-title'); return; }
    const problem = await answer.json();
    if (problem.code === 'not_found') say('This set-up link is not the right one. Use the link that the server printed.');
    else if (problem.code === 'token_used') show('over', 'over-title');
    else say(problem.detail, problem.field);
  } catch {
    say('The server cannot be reached. Try again in a moment.');
  } finally {
    button.disabled = false;
  }
});
`;

const body = `<form id="form" novalidate>
<h1>Make the first owner</h1>
<p>This account owns the platform. It can do everything; further people are added later.</p>
<label for="displayName">Your name</label>
<input id="displayName" name="displayName" autocomplete="name" maxlength="100" required autofocus>
<label for="email">E-mail address</label>
<input id="email" name="email" type="email" autocomplete="username" maxlength="254" required aria-describedby="email-note">
<small id="email-note">You sign in with it. Nothing is sent to it.</small>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="new-password" minlength="12" maxlength="200" required
 aria-describedby="password-note">
<small id="password-note">At least 12 characters; a sentence is best.</small>
<label for="again">Password, once more</label>
<input id="again" name="again" type="password" autocomplete="new-password" maxlength="200" required>
<label for="tenantName">Name of your platform (optional)</label>
<input id="tenantName" name="tenantName" autocomplete="organization" maxlength="100">
<p id="message" role="alert"></p>
<button id="submit" type="submit">Make the owner</button>
</form>
<section id="done" hidden>
<h1 id="done-title" tabindex="-1" class="done">Penstock is yours</h1>
<p><strong id="who"></strong> owns the platform now. This link no longer works.</p>
<p>Sign in from a terminal with <code>./penstock login</code>.</p>
</section>
<section id="over" hidden>
<h1 id="over-title" tabindex="-1">Set-up is over</h1>
<p>This platform has an owner. Sign in from a terminal with <code>./penstock login</code>.</p>
</section>
<section id="missing" hidden>
<h1 id="missing-title" tabindex="-1">The link is incomplete</h1>
<p>Open the whole link that the server printed when it started; the part after <code>#</code> is the key.</p>
</section>
<noscript><p>This page needs JavaScript, because the key in the link never leaves your browser otherwise.</p></noscript>
`;

const setup = page('Set up Penstock', body, script);
export const setupPage = setup.html;
export const setupPagePolicy = setup.policy;
