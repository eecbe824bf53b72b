// A lint rule: secrets are not compared by ===, ==, equals(), compare(), includes() or switch, which stop at the first
// byte that differs and so can be timed. What is a secret is told by its name. Compare with sameSecret() of
// @penstock/service/secret-compare, or look its hash up in the database.

/** The last word of a name decides: `refreshToken` and `secret` are secrets, `tokenId` and `passwordHash` are not. */
const SECRET =
  /(?:secret|password|passphrase|token|bearer|mac|hmac|otp|pin|recovery_?code|api_?key|private_?key|preshared_?key|psk|csrf|nonce|verifier|credential)s?$/i;
const METHODS = new Set([
  'equals',
  'compare',
  'localeCompare',
  'includes',
  'indexOf',
  'startsWith',
  'endsWith',
]);
const WRAPPERS = new Set([
  'TSNonNullExpression',
  'TSAsExpression',
  'TSSatisfiesExpression',
  'TSTypeAssertion',
  'AwaitExpression',
]);

/** Name of what an expression yields: `a.b.secret`, `secret!`, `secret.toString('hex')`, `Buffer.from(secret)`. */
function nameOf(node) {
  if (node === null || node === undefined) return '';
  if (WRAPPERS.has(node.type)) return nameOf(node.argument ?? node.expression);
  if (node.type === 'ChainExpression') return nameOf(node.expression);
  if (node.type === 'Identifier' || node.type === 'PrivateIdentifier') return node.name;
  if (node.type === 'MemberExpression') {
    return node.computed && node.property.type === 'Literal'
      ? String(node.property.value)
      : nameOf(node.property);
  }
  if (node.type === 'LogicalExpression') return nameOf(node.left);
  if (node.type === 'CallExpression') {
    const { callee } = node;
    if (callee.type === 'MemberExpression' && nameOf(callee.property) === 'from')
      return nameOf(node.arguments[0]);
    const changes = ['toString', 'trim', 'toLowerCase', 'normalize', 'subarray', 'slice'];
    if (callee.type === 'MemberExpression' && changes.includes(nameOf(callee.property)))
      return nameOf(callee.object);
    if (callee.type === 'Identifier' && callee.name === 'String') return nameOf(node.arguments[0]);
  }
  return '';
}

const isSecret = (node) => SECRET.test(nameOf(node));

/** null, undefined, '', a constant like NO_KEY, and what typeof gives: whether there is one, not which. */
function asksPresence(node) {
  if (node.type === 'Literal')
    return node.value === null || node.value === '' || typeof node.value !== 'string';
  if (node.type === 'Identifier') return node.name === 'undefined' || /^NO_[A-Z_]+$/.test(node.name);
  return node.type === 'UnaryExpression';
}

export const noPlainSecretComparison = {
  meta: {
    type: 'problem',
    messages: {
      timed:
        'Comparing a secret like this can be timed: use sameSecret() of @penstock/service/secret-compare.',
    },
    schema: [],
  },
  create(context) {
    const report = (node) => context.report({ node, messageId: 'timed' });
    return {
      BinaryExpression(node) {
        if (!['===', '!==', '==', '!='].includes(node.operator)) return;
        if (asksPresence(node.left) || asksPresence(node.right)) return;
        if (isSecret(node.left) || isSecret(node.right)) report(node);
      },
      SwitchStatement(node) {
        if (isSecret(node.discriminant)) report(node);
      },
      CallExpression(node) {
        if (node.callee.type !== 'MemberExpression' || !METHODS.has(nameOf(node.callee.property))) return;
        const [first] = node.arguments;
        if (first?.type === 'Literal') return;
        if (node.arguments.some(isSecret) || isSecret(node.callee.object)) report(node);
      },
    };
  },
};
