// What the operator sets on the host: who may reach the sensitive routes. Works while the product is down, too.
import type { Command } from 'commander';
import {
  allowCidr,
  forbidCidr,
  readOperatorConfig,
  type OperatorConfig,
} from '@penstock/stack/operator-config';
import type { Context } from '../context.js';

export function configCommands(program: Command, context: Context): void {
  const config = program.command('config').description('configuration of this installation');
  const show = (set: OperatorConfig, note?: string): void => {
    const out = context.output();
    if (out.json) return out.write(`${JSON.stringify(set)}\n`);
    out.write('Sensitive routes are served to:\n');
    for (const cidr of set.adminCidrs) out.write(`  ${cidr}\n`);
    if (note !== undefined) out.write(`${note}\n`);
  };
  const restart = 'Start Penstock again (Ctrl-C, npm start) for it to take effect.';
  config
    .command('show')
    .description('what is set')
    .action(async () => show(await readOperatorConfig(context.dataDirectory())));
  config
    .command('allow')
    .description('serves sensitive routes to a further range of addresses')
    .argument('<cidr>', 'a range such as 203.0.113.7/32')
    .action(async (cidr: string) => show(await allowCidr(context.dataDirectory(), cidr), restart));
  config
    .command('forbid')
    .description('takes a range away again')
    .argument('<cidr>', 'a range as `config show` lists it')
    .action(async (cidr: string) => show(await forbidCidr(context.dataDirectory(), cidr), restart));
}
