import type { Api } from './api.js';
import type { Output } from './output.js';

/** What every command gets. */
export interface Context {
  api(): Api;
  output(): Output;
  /** `.penstock` of this clone, or what --data names. */
  dataDirectory(): string;
}
