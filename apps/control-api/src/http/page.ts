// The shell of the few pages that control-api serves itself: forms behind one-time links, and the root; nothing from
// elsewhere. The link's secret stands in the URL's fragment, which no browser sends to any server; the page takes it out
// of the address bar at once. Style and script are named to the browser by their hashes.
import { createHash } from 'node:crypto';

const style = `
:root { color-scheme: light dark; --ink: #14201f; --soft: #55655f; --paper: #f4f7f5; --card: #ffffff; --line: #cfdad5;
  --gate: #0b6b58; --gate-ink: #ffffff; --bad: #a4201b; --good: #0b6b58; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7efec; --soft: #9fb1aa; --paper: #0e1614; --card: #16211e;
  --line: #2d3d38; --gate: #3bbf9f; --gate-ink: #06231c; --bad: #ff8a80; --good: #3bbf9f; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; grid-template-columns: minmax(0, 1fr); place-items: center;
  padding: 24px; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { width: 100%; max-width: 440px; background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: 32px; box-shadow: 0 12px 40px rgb(0 0 0 / .06); }
.mark { display: flex; align-items: center; gap: 10px; font-weight: 650; letter-spacing: .01em; }
.mark svg { width: 28px; height: 28px; color: var(--gate); }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 20px 0 6px; }
h2 { font-size: 1.05rem; margin: 24px 0 4px; }
a { color: var(--gate); }
pre { margin: -8px 0 20px; padding: 12px 14px; white-space: pre-wrap; overflow-wrap: anywhere;
  background: var(--paper);
  border: 1px solid var(--line); border-radius: 8px; }
pre code { padding: 0; border: 0; background: none; }
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

export interface Page {
  html: string;
  /** Value of content-security-policy. */
  policy: string;
}

const sha256 = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/** `body` and `script` are ours: nothing of a request is ever put in. Without a script nothing may run or connect. */
export function page(title: string, body: string, script: string): Page {
  const policy = [
    `default-src 'none'`,
    `style-src ${sha256(style)}`,
    ...(script === '' ? [] : [`script-src ${sha256(script)}`, `connect-src 'self'`]),
    `form-action 'none'`,
    `base-uri 'none'`,
    `frame-ancestors 'none'`,
  ].join('; ');
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${title}</title>
<style>${style}</style>
</head>
<body>
<main>
<div class="mark"><svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round"
 aria-hidden="true"><path d="M4 3v18M20 3v18M4 6h16M8 6v8h8V6M12 6v8M6 19c2-2 4 2 6 0s4 2 6 0"/></svg>Penstock</div>
${body}</main>
${script === '' ? '' : `<script>${script}</script>\n`}</body>
</html>
`;
  return { html, policy };
}
