//! What a person is told who wants clients to trust a local authority.

use std::fmt::Write as _;
use std::path::Path;

use super::system::{Change, SystemStore, quoted};

/// Clients with a way of their own; `FILE` is the authority's.
const CLIENTS: [(&str, &str); 8] = [
    (
        "Gajim",
        "at the first login tick \"Add this certificate to the list of trusted certificates\"",
    ),
    (
        "Pidgin, Finch",
        "accept the certificate when asked at the first login",
    ),
    ("Profanity", "at the first login answer /tls always"),
    (
        "Psi",
        "mkdir -p ~/.local/share/psi/certs && cp FILE ~/.local/share/psi/certs/xbosh-DOMAIN.pem, then start it again",
    ),
    (
        "Psi+",
        "mkdir -p ~/.local/share/psi+/certs && cp FILE ~/.local/share/psi+/certs/xbosh-DOMAIN.pem, then start it again",
    ),
    (
        "poezio",
        "/set ca_cert_path FILE, or confirm the certificate when asked",
    ),
    ("slixmpp", "client.ca_certs = \"FILE\""),
    ("Node.js (@xmpp/client)", "NODE_EXTRA_CA_CERTS=FILE"),
];

/// What to do in each client whose way is known, and for all of them at once.
#[must_use]
pub fn instructions(system: &SystemStore, certificate: &Path, domain: &str) -> String {
    let file = quoted(certificate);
    let commands = system
        .commands(Change::Add, certificate, domain)
        .unwrap_or_else(|| format!("  add {file} by the system's own means"));
    let mut out = format!(
        "Clients are offered TLS for {domain} from now on. The authority to trust is {}.\n\n\
         For every client that uses the system's certificates (Dino and mcabber know no other way; Gajim, Pidgin, Finch,\n\
         Profanity, Psi, sendxmpp, go-sendxmpp and most libraries do, too):\n{commands}\n\nFor one client alone:\n",
        certificate.display()
    );
    for (client, step) in CLIENTS {
        let step = step.replace("FILE", &file).replace("DOMAIN", domain);
        let _ = writeln!(out, "  {client}: {step}");
    }
    let _ = write!(
        out,
        "\nThe authority can vouch for {domain} and this machine only. xbosh ca trust --undo {domain} takes it back.\n"
    );
    out
}
