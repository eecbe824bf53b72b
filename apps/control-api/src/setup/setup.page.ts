// The page behind the one-time link: one form, nothing from elsewhere. The secret stands in the URL's fragment, which
// no browser sends to any server; the page takes it out of the address bar at once.
import { createHash } from 'node:crypto';

const style = `
:root { color-scheme: light dark; --ink: #14201f; --soft: #55655f; --paper: #f4f7f5; --card: #ffffff; --line: #cfdad5;
  --gate: #0b6b58; --gate-ink: #ffffff; --bad: #a4201b; --good: #0b6b58; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7efec; --soft: #9fb1aa; --paper: #0e1614; --card: #16211e;
  --line: #2d3d38; --gate: #3bbf9f; --gate-ink: #06231c; --bad: #ff8a80; --good: #3bbf9f; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 24px; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { width: 100%; max-width: 440px; background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: 32px; box-shadow: 0 12px 40px rgb(0 0 0 / .06); }
.mark { display: flex; align-items: center; gap: 10px; font-weight: 650; letter-spacing: .01em; }
.mark svg { width: 28px; height: 28px; color: var(--gate); }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 20px 0 6px; }
p { margin: 0 0 20px; color: var(--soft); }
label { display: block; font-weight: 600; margin: 16px 0 6px; }
small { display: block; color: var(--soft); margin-top: 4px; }
input { width: 100%; font: inherit; color: inherit; background: var(--paper); padding: 11px 12px;
  border: 1px solid var(--line); border-radius: 8px; }
input[aria-invalid=true] { border-color: var(--bad); }
button { width: 100%; margin-top: 24px; padding: 12px; font: inherit; font-weight: 650; border: 0; border-radius: 8px;
  background: var(--gate); color: var(--gate-ink); cursor: pointer; }
button[disabled] { opacity: .6; cursor: progress; }
:focus-visible { outline: 3px solid var(--gate); outline-offset: 2px; }
[role=alert] { color: var(--bad); margin: 16px 0 0; font-weight: 600; }
[role=alert]:empty { display: none; }
.done { color: var(--good); }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, monospace; background: var(--paper); padding: 2px 6px;
  border-radius: 5px; border: 1px solid var(--line); }
[hidden] { display: none; }
`;

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

const sha256 = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

export const setupPagePolicy = [
  `default-src 'none'`,
  `style-src ${sha256(style)}`,
  `script-src ${sha256(script)}`,
  `connect-src 'self'`,
  `form-action 'none'`,
  `base-uri 'none'`,
  `frame-ancestors 'none'`,
].join('; ');

export const setupPage = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Set up Penstock</title>
<style>${style}</style>
</head>
<body>
<main>
<div class="mark"><svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round"
 aria-hidden="true"><path d="M4 3v18M20 3v18M4 6h16M8 6v8h8V6M12 6v8M6 19c2-2 4 2 6 0s4 2 6 0"/></svg>Penstock</div>
<form id="form" novalidate>
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
</main>
<script>${script}</script>
</body>
</html>
`;
