// Where to look for engines and how to build them, from the environment. Called by the two commands in bin/.
import { join } from 'node:path';
import { processEnvironment } from '@penstock/service/config';
import type { StartConfig } from './config.js';
import type { EngineOptions, Say } from './engines.js';
import { cacheDir } from './paths.js';

export function engineOptions(config: StartConfig, say: Say): EngineOptions {
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(processEnvironment())) {
    const wanted =
      /^(GO[A-Z0-9]+|HTTPS?_PROXY|NO_PROXY|https?_proxy|no_proxy|SSL_CERT_(FILE|DIR)|XDG_CACHE_HOME)$/;
    if (value !== undefined && wanted.test(name)) env[name] = value;
  }
  return {
    search: {
      xrayBin: config.XRAY_BIN,
      wireguardGoBin: config.WIREGUARD_GO_BIN,
      path: config.PATH,
      cache: join(cacheDir(), 'engines'),
    },
    go: { path: config.PATH, home: config.HOME, env },
    root: process.getuid?.() === 0,
    say,
  };
}
