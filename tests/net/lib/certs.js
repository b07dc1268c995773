// certs.js - an authority, a server's certificate for 127.0.0.1 and a client's, made by openssl when
// a test needs them.

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { folderFor } from './process.js';

function openssl(...args) {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export function makeCertificates(t, { names = 'IP:127.0.0.1,DNS:localhost' } = {}) {
  const dir = folderFor(t);
  const at = (name) => join(dir, name);
  const authority = (name) => openssl('req', '-x509', ...KEY, '-keyout', at(`${name}.key`), '-out', at(`${name}.pem`), '-days', '2', '-subj', `/CN=${name}`,
    '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign');
  const sign = (name, by) => openssl('x509', '-req', '-in', at(`${name}.csr`), '-CA', at(`${by}.pem`), '-CAkey', at(`${by}.key`), '-CAcreateserial', '-days', '2',
    '-extfile', at(`${name}.ext`), '-out', at(`${name}.pem`));
  // A past end is what only `openssl ca` takes in all versions.
  const signExpired = (name, by) => {
    writeFileSync(at('ca.index'), '');
    writeFileSync(at('ca.conf'), `[ca]\ndefault_ca = here\n[here]\ndatabase = ${at('ca.index')}\nserial = ${at('ca.serial')}\nnew_certs_dir = ${dir}\ndefault_md = sha256\npolicy = any\n[any]\ncommonName = supplied\n`);
    openssl('ca', '-batch', '-config', at('ca.conf'), '-create_serial', '-in', at(`${name}.csr`), '-cert', at(`${by}.pem`), '-keyfile', at(`${by}.key`),
      '-startdate', '20200101000000Z', '-enddate', '20200102000000Z', '-extfile', at(`${name}.ext`), '-notext', '-out', at(`${name}.pem`));
  };
  // {cert, key} signed by an authority.
  const make = (name, extensions, { by = 'authority', expired = false } = {}) => {
    writeFileSync(at(`${name}.ext`), extensions);
    openssl('req', ...KEY, '-keyout', at(`${name}.key`), '-out', at(`${name}.csr`), '-subj', `/CN=${name}`);
    (expired ? signExpired : sign)(name, by);
    return { cert: at(`${name}.pem`), key: at(`${name}.key`) };
  };
  authority('authority');
  authority('stranger');
  const server = make('server', `subjectAltName=${names}\nextendedKeyUsage=serverAuth,clientAuth\n`);
  const client = make('client', 'extendedKeyUsage=clientAuth\n');
  return { ca: at('authority.pem'), ...server, clientCert: client.cert, clientKey: client.key, strangerCa: at('stranger.pem'), make };
}

// What `make run TLS=1` serves with: for localhost, signed by itself.
export function localCertificate(dir) {
  execFileSync(fileURLToPath(new URL('../../tools/local_certificate', import.meta.url)), [dir], { stdio: ['ignore', 'ignore', 'pipe'] });
  return { cert: join(dir, 'cert.pem'), key: join(dir, 'key.pem') };
}
