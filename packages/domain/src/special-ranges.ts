// Destinations that are nobody's business on the internet, for all engines and for our own calls to strangers' servers:
// one list, so that what one closes another does not leave open. Text, because each engine writes it into a language of
// its own.

export type Family = 4 | 6;

/** Nothing on the internet (::/96 writes IPv4 as IPv6); link-local and the last IPv4 one hold the clouds' metadata services. */
const NEVER: Record<Family, readonly string[]> = {
  4: ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', '240.0.0.0/4', '168.63.129.16/32'],
  6: ['::/96', '::ffff:0:0/96', 'fe80::/10', 'ff00::/8'],
};
/** Somebody's inside: RFC 1918, shared address space, unique local (fd00:ec2::254 too), NAT64 and 6to4 to them. */
const PRIVATE: Record<Family, readonly string[]> = {
  4: ['10.0.0.0/8', '100.64.0.0/10', '172.16.0.0/12', '192.0.0.0/24', '192.168.0.0/16'],
  6: ['fc00::/7', '64:ff9b::/96', '64:ff9b:1::/48', '2002::/16'],
};

/** CIDRs of one family that nobody may be led to. `blockPrivate` false leaves the private ones out. */
export function specialRanges(family: Family, blockPrivate: boolean): string[] {
  return [...NEVER[family], ...(blockPrivate ? PRIVATE[family] : [])];
}
