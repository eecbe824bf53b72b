// A page behind a one-time link: one form whose fields go, with the link's secret, into one call of the API. An input
// named `again` must equal the password and does not travel; an empty optional one does not either.
import { page, type Page } from './page.js';

export interface LinkPage {
  title: string;
  intro: string;
  /** Labels and inputs; ours, never from a request. */
  fields: string;
  submit: string;
  /** Path of the call, relative to the page. */
  call: string;
  doneTitle: string;
  doneText: string;
}

export function linkPage(options: LinkPage): Page {
  const { title, intro, fields, submit, call, doneTitle, doneText } = options;
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
  if (form.elements.namedItem('again') && value('password') !== value('again'))
    return say('The two passwords differ.', 'again');
  const fields = {};
  for (const { name, value } of form.querySelectorAll('input'))
    if (name !== 'again' && value !== '') fields[name] = value;
  button.disabled = true;
  say('');
  try {
    const answer = await fetch('${call}', {
      method: 'POST', headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ token, ...fields }) });
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
<h1>${title}</h1>
<p>${intro}</p>
${fields}
<p id="message" role="alert"></p>
<button id="submit" type="submit">${submit}</button>
</form>
<section id="done" hidden>
<h1 id="done-title" tabindex="-1" class="done">${doneTitle}</h1>
<p>${doneText}</p>
</section>
<section id="over" hidden>
<h1 id="over-title" tabindex="-1">This link works no more</h1>
<p>It was used, taken back, or it has expired. Ask for another one.</p>
</section>
<section id="missing" hidden>
<h1 id="missing-title" tabindex="-1">The link is incomplete</h1>
<p>Open the whole link that you were given; the part after <code>#</code> is the key.</p>
</section>
<noscript><p>This page needs JavaScript, because the key in the link never leaves your browser otherwise.</p></noscript>
`;
  return page(title, body, script);
}
