import { z } from 'zod';
import { PASSWORD_CHARACTERS_MIN } from '../auth/auth.schema.js';
import { text } from '../http/fields.js';
import { timeZone } from '../tenants/tenants.schema.js';

const days = (least: number, most: number) => z.number().int().min(least).max(most);

const shape = {
  supportName: z
    .union([z.literal(''), text(100)])
    .meta({ description: 'Who helps; shown to people and customers.' }),
  supportUrl: z
    .union([z.literal(''), z.url({ protocol: /^https$/ }).max(500)])
    .meta({ description: 'Where help is to be had; https only.' }),
  minPasswordLength: z
    .number()
    .int()
    .min(PASSWORD_CHARACTERS_MIN)
    .max(64)
    .meta({ description: 'For passwords that are set from now on.' }),
  sessionDays: days(1, 90).meta({ description: 'A sign-in that is not used ends after so many days.' }),
  usageHourDays: days(62, 4_000).meta({
    description: 'Hourly usage is kept so long; months are kept for good.',
  }),
  defaultTimeZone: timeZone.meta({ description: 'Of tenants that name none when they are made.' }),
};

/** What holds where nobody set anything. */
export const defaultSettings = {
  supportName: '',
  supportUrl: '',
  minPasswordLength: PASSWORD_CHARACTERS_MIN,
  sessionDays: 30,
  usageHourDays: 400,
  defaultTimeZone: 'UTC',
} as const satisfies Settings;

export const settings = z.strictObject(shape);
export type Settings = z.output<typeof settings>;

export const changedSettings = settings
  .partial()
  .refine((change) => Object.keys(change).length > 0, 'names nothing to change')
  .meta({ examples: [{ supportName: 'Example Net support', supportUrl: 'https://example.org/help' }] });
export type ChangedSettings = z.output<typeof changedSettings>;

export const settingsReply = z
  .strictObject({ ...shape, version: z.number().int() })
  .meta({ examples: [{ ...defaultSettings, supportName: 'Example Net support', version: 1 }] });
