// The page at the root, for whoever opens the API's address in a browser: what this is and where to go on. The same text
// for everybody at every time: it tells nothing of this installation.
import { page } from './page.js';

export const homePage = page(
  'Penstock',
  `<h1>The API of Penstock</h1>
<p>The control plane for many tenants’ VPN access over Xray and WireGuard: plans, subscriptions, nodes, and what they use.</p>
<h2>At the command line</h2>
<p>In the folder where it was installed:</p>
<pre><code>./penstock login --email you@example.org
./penstock --help</code></pre>
<p>There is no account to open here: somebody who is in invites you, with a link that works once. The very first owner has
the set-up link that the first start prints in its terminal.</p>
<h2>From a program</h2>
<p><a href="api/v1/reference">API reference</a> for people, <a href="api/v1/openapi.json">OpenAPI 3.1</a> for tools.</p>
`,
  '',
);
