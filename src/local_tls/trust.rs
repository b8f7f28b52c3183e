//! What a person is told who wants clients to trust a local authority.

use std::fmt::Write as _;
use std::path::Path;

use super::system::{Change, SystemStore, quoted};

/// Clients with a way of their own, as `docs/clients.md` has it; `{file}` is the authority's, `{folder}` where it is.
const CLIENTS: [(&str, &str); 14] = [
    (
        "Gajim",
        "at the first login \"Add to Trusted Certificates\"; it asks again when there is a new one",
    ),
    ("Profanity", "at the first login answer /tls always"),
    (
        "poezio",
        "/set ca_cert_path {file}, or confirm the certificate when asked",
    ),
    ("sendxmpp", "--tls-ca-path {folder}"),
    ("slixmpp", "client.ca_certs = \"{file}\""),
    ("aioxmpp", "SSL_CERT_FILE={file} in its environment"),
    (
        "nbxmpp",
        "Gio.TlsBackend.get_default().set_default_database(Gio.TlsFileDatabase.new(\"{file}\"))",
    ),
    ("libstrophe", "xmpp_conn_set_cafile(conn, \"{file}\")"),
    ("loudmouth", "lm_ssl_set_ca(ssl, \"{file}\")"),
    (
        "Node.js (@xmpp/client)",
        "NODE_EXTRA_CA_CERTS={file} in its environment",
    ),
    (
        "mcabber",
        "set ssl_fingerprint, until there is a new certificate",
    ),
    ("Pidgin (untested)", "Tools, Certificates, Add: {file}"),
    (
        "Psi (untested)",
        "mkdir -p ~/.local/share/psi/certs && cp {file} ~/.local/share/psi/certs/xbosh-{domain}.pem, then start it again",
    ),
    (
        "Psi+ (untested)",
        "mkdir -p ~/.local/share/psi+/certs && cp {file} ~/.local/share/psi+/certs/xbosh-{domain}.pem, then start it again",
    ),
];

/// What to do in each client whose way is known, and for all of them at once.
#[must_use]
pub fn instructions(system: &SystemStore, certificate: &Path, domain: &str) -> String {
    let file = quoted(certificate);
    let folder = quoted(certificate.parent().unwrap_or(certificate));
    let commands = system
        .commands(Change::Add, certificate, domain)
        .unwrap_or_else(|| format!("  add {file} by the system's own means"));
    let mut out = format!(
        "Clients are offered TLS for {domain} from now on. The authority to trust is {}.\n\n\
         For every client that uses the system's certificates (Dino, Finch, gloox and go-sendxmpp know no other way; Gajim,\n\
         mcabber, Profanity, sendxmpp and most libraries do, too):\n{commands}\n\nFor one client alone:\n",
        certificate.display()
    );
    for (client, step) in CLIENTS {
        let step = step
            .replace("{folder}", &folder)
            .replace("{file}", &file)
            .replace("{domain}", domain);
        let _ = writeln!(out, "  {client}: {step}");
    }
    let _ = write!(
        out,
        "\nThe authority can vouch for {domain} and this machine only. xbosh ca trust --undo {domain} takes it back.\n"
    );
    out
}
