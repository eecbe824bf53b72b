// V34: text that somebody stored never runs in a browser: it travels as JSON that no browser sniffs, under a policy that
// runs nothing, and our own pages are rendered in a real Chromium.
import { existsSync } from 'node:fs';
import { chromium, type Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { escapeHtml, referencePage } from '../../apps/control-api/src/http/reference.page.js';
import { createWorld, type Person, type World } from '../../apps/control-api/test/world.js';

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  existsSync,
);
const payloads = [
  ...['<script>window.hit=1</script>', '<img src=x onerror="window.hit=1">', '"><svg onload=window.hit=1>'],
  ...[
    "'-window.hit=1-'",
    'javascript:window.hit=1',
    '</style><script>window.hit=1</script>',
    '<!--<script>window.hit=1',
  ],
];

describe('V34 stored text', () => {
  let world: World;
  let owner: Person;
  let browser: Browser | undefined;

  beforeAll(async () => {
    world = await createWorld({ env: { RATE_LIMIT_FACTOR: '10000' } });
    owner = await world.person(await world.tenant(), 'owner');
    if (CHROMIUM !== undefined) {
      browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
    }
  });
  afterAll(async () => {
    await browser?.close();
    await world.close();
  });

  test('comes back as JSON that is not sniffed, under a policy that runs nothing', async () => {
    for (const name of payloads) {
      const made = await world.ask('POST', '/api/v1/node-groups', {
        ...{ as: owner, body: { name }, headers: { 'user-agent': name } },
      });
      expect(made.status, made.text).toBe(201);
    }
    for (const path of [
      '/api/v1/node-groups',
      '/api/v1/audit',
      `/api/v1/${encodeURIComponent(payloads[0] ?? '')}`,
    ]) {
      const { headers } = await world.ask('GET', path, { as: owner });
      expect(headers.get('content-type'), path).toMatch(/^application\/(problem\+)?json/);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('content-security-policy')).toContain(`default-src 'none'`);
      expect(headers.get('content-security-policy')).not.toContain('unsafe');
    }
  });

  test('no cookie is set that a script could read or another site could send', async () => {
    const answer = await world.ask('GET', '/api/v1/auth/me', { as: owner });
    expect(answer.headers.get('set-cookie')).toBeNull();
  });

  test('the reference page escapes whatever the document says', () => {
    const document = {
      info: { title: payloads[0], description: payloads.join('\n\n') },
      tags: [{ name: 'x', description: payloads[1] }],
      paths: {},
      components: {
        schemas: { A: { type: 'object', properties: { [payloads[2] ?? '']: { enum: payloads } } } },
      },
    };
    const html = referencePage(document);
    for (const payload of payloads.filter((each) => /[<>]/.test(each))) {
      expect(html).not.toContain(payload);
      expect(html).toContain(escapeHtml(payload));
    }
  });

  test.skipIf(CHROMIUM === undefined)(
    'our pages, opened with payloads in Chromium, run none of them',
    async () => {
      if (browser === undefined) throw new Error('no browser');
      const page = await browser.newPage();
      const alarms: string[] = [];
      page.on('dialog', (dialog) => {
        alarms.push(dialog.message());
        void dialog.dismiss();
      });
      for (const path of ['/setup', '/api/v1/reference']) {
        for (const payload of payloads) {
          await page.goto(
            `${world.url}${path}?q=${encodeURIComponent(payload)}#${encodeURIComponent(payload)}`,
          );
          expect(await page.evaluate('window.hit'), `${path} ${payload}`).toBeUndefined();
        }
      }
      // A page of ours with foreign script put into it: the policy, not the escaping, keeps it from running.
      await page.goto(`${world.url}/api/v1/reference`);
      await page.evaluate(
        `document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.hit=1">');
       const s = document.createElement('script'); s.textContent = 'window.hit=1'; document.body.append(s);`,
      );
      await page.waitForFunction(`document.images.length > 0`);
      expect(await page.evaluate('window.hit')).toBeUndefined();
      expect(await page.title()).toContain('API');
      expect(alarms).toEqual([]);
    },
  );
});
