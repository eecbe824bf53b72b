// The edge through Caddy: the API on one port, the node edge with client certificates on another, enrollment
// without on a third. Caddy speaks to the services as service/caddy, the only peer whose certificate header they
// believe; whatever a client sends under that name is overwritten, or removed where there is no certificate.
// `caddyfile` is pure. Called by stack.ts; the security tests and the end-to-end tests start the same file.
import { AppError } from '@penstock/domain/errors';

/** The services read the node's certificate (base64 DER) from this header. */
export const certificateHeader = 'x-penstock-client-certificate';

export interface CaddyOptions {
  /** Address that the API and the two edges for nodes listen on; 0.0.0.0 is everywhere. */
  apiHost: string;
  edgeHost: string;
  apiPort: number;
  nodePort: number;
  enrollPort: number;
  /** Loopback: /metrics with Caddy's own counts. */
  metricsPort: number;
  storageDir: string;
  /** One JSON line a request; written when a stream ends. */
  accessLog: string;
  /** Certificate and key of service/caddy, and the root that node certificates lead to. */
  tls: { cert: string; key: string; root: string };
  /** host:port of each service, plain HTTP for the API, mTLS for the rest. */
  upstreams: {
    api: string;
    enroll: readonly string[];
    scheduler: readonly string[];
    collector: readonly string[];
  };
}

/** The Caddyfile (Caddy ≥ 2.6) for these ports. */
export function caddyfile(options: CaddyOptions): string {
  const { tls, upstreams } = options;
  const log = `log {
		output file ${quoted(options.accessLog)} {
			roll_disabled
		}
		format json
	}`;
  const serverTls = (client: string): string => `tls ${quoted(tls.cert)} ${quoted(tls.key)} {
		protocols tls1.3${client}
	}`;
  const mutual = `
		client_auth {
			mode require_and_verify
			trusted_ca_cert_file ${quoted(tls.root)}
		}`;
  const proxy = (targets: readonly string[], header: string): string => `reverse_proxy ${targets
    .map((target) => `https://${target}`)
    .join(' ')} {
			flush_interval -1
			header_up ${header}
			transport http {
				versions 2
				tls_client_auth ${quoted(tls.cert)} ${quoted(tls.key)}
				tls_trusted_ca_certs ${quoted(tls.root)}
				tls_server_name localhost
			}
		}`;
  const pass = `${certificateHeader} {http.request.tls.client.certificate_der_base64}`;
  return `{
	admin off
	auto_https off
	storage file_system ${quoted(options.storageDir)}
	default_sni localhost
	servers {
		metrics
		protocols h1 h2
	}
}

http://127.0.0.1:${options.metricsPort} {
	bind 127.0.0.1
	metrics /metrics
	respond /ready 200
}

http://:${options.apiPort} {
	bind ${options.apiHost}
	${log}
	reverse_proxy ${upstreams.api} {
		flush_interval -1
		header_up -${certificateHeader}
	}
}

https://:${options.nodePort} {
	bind ${options.edgeHost}
	${log}
	${serverTls(mutual)}
	handle /penstock.usage.v1.* {
		${proxy(upstreams.collector, pass)}
	}
	handle {
		${proxy(upstreams.scheduler, pass)}
	}
}

https://:${options.enrollPort} {
	bind ${options.edgeHost}
	${log}
	${serverTls('')}
	handle {
		${proxy(upstreams.enroll, `-${certificateHeader}`)}
	}
}
`;
}

function quoted(text: string): string {
  if (/["`\n{}]/.test(text))
    throw new AppError('invalid_input', `A path for Caddy must not hold quotes or braces.`);
  return `"${text}"`;
}
