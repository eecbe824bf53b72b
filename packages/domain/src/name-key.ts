// One key for names that people take for the same: what must be unique is compared by it, and never by the text as it
// was typed. Equal keys: same letters after NFKC, whatever their case, spacing or invisible characters, and with the
// look-alikes of the Cyrillic, Greek and other alphabets read as the Latin letters that they look like.
// Stored beside the name (`name_key`) under a unique index, so it must never change for a text.

// Small letters, because the text is folded first. Digits and letters (0/o, 1/l) stay apart: names count with them.
const LOOKS_LIKE: Readonly<Record<string, string>> = {
  // Cyrillic
  ...{
    а: 'a',
    в: 'b',
    с: 'c',
    ԁ: 'd',
    е: 'e',
    ё: 'e',
    ԍ: 'g',
    һ: 'h',
    н: 'h',
    і: 'i',
    ї: 'i',
    ј: 'j',
    к: 'k',
  },
  ...{
    ӏ: 'l',
    м: 'm',
    о: 'o',
    р: 'p',
    ԛ: 'q',
    ѕ: 's',
    т: 't',
    у: 'y',
    ү: 'y',
    ѵ: 'v',
    ԝ: 'w',
    х: 'x',
    з: '3',
  },
  // Greek
  ...{
    α: 'a',
    β: 'b',
    ϲ: 'c',
    ε: 'e',
    η: 'h',
    ι: 'i',
    κ: 'k',
    μ: 'm',
    ν: 'v',
    ο: 'o',
    ρ: 'p',
    τ: 't',
    υ: 'y',
  },
  ...{ χ: 'x', ζ: 'z', ϳ: 'j', ω: 'w' },
  // Latin letters beside the usual ones, and Armenian and Cherokee ones
  ...{
    ı: 'i',
    ȷ: 'j',
    ɑ: 'a',
    ɡ: 'g',
    ɩ: 'i',
    ʏ: 'y',
    ꜱ: 's',
    օ: 'o',
    ս: 'u',
    հ: 'h',
    ո: 'n',
    զ: 'q',
    ց: 'g',
  },
};

/** The key of a name, an e-mail address or a label. Idempotent; '' for a text of nothing visible. */
export function nameKey(text: string): string {
  const folded = fold(fold(text));
  let key = '';
  for (const character of folded) key += LOOKS_LIKE[character] ?? character;
  return key;
}

/** Case folding by way of capitals joins what has one capital (ß and ss, ς and σ). Twice is a fixed point. */
function fold(text: string): string {
  return text
    .normalize('NFKD')
    .replace(/[\p{Default_Ignorable_Code_Point}\p{Cc}\p{M}]/gu, (mark) =>
      /\s/u.test(mark) ? ' ' : keptMark(mark),
    )
    .toUpperCase()
    .toLowerCase()
    .replaceAll('ς', 'σ')
    .normalize('NFKC')
    .replace(/[\s\p{Z}]+/gu, ' ')
    .trim();
}

/** Accents count (Muller is not Müller); variation selectors, joiners and other invisible ones do not. */
function keptMark(mark: string): string {
  return /[\p{Default_Ignorable_Code_Point}\p{Cc}]/u.test(mark) ? '' : mark;
}
