// The anchor of `api-get`: node:http and pg, one prepared SELECT by key, and nothing of ours.
// argv: port, database URL, subscription id.
import { createServer } from 'node:http';
import { createPool } from '@penstock/db/pool';

const [port = '0', url = '', subscriptionId = ''] = process.argv.slice(2);
const pool = createPool(url, { applicationName: 'anchor', max: 10 });
const query = {
  name: 'anchor',
  text: `SELECT s.subscription_id AS "subscriptionId", s.plan_id AS "planId", s.name, s.external_ref AS "externalRef",
                s.admin_state AS "adminState", s.device_limit AS "deviceLimit", s.expires_at AS "expiresAt",
                s.version, s.created_at AS "createdAt"
           FROM subscription s WHERE s.subscription_id = $1`,
};

const server = createServer((_request, response) => {
  pool.query({ ...query, values: [subscriptionId] }).then(
    ({ rows }) => {
      const body = JSON.stringify(rows[0]);
      response.writeHead(200, {
        'content-type': 'application/json; charset=utf-8',
        'content-length': Buffer.byteLength(body),
      });
      response.end(body);
    },
    (error: unknown) => {
      response.writeHead(500).end(String(error));
    },
  );
});
server.listen(Number(port), '127.0.0.1');
