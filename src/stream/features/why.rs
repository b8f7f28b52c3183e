//! Why a feature was taken out, for the log.

/// Whether a name belongs to a group of features.
type Belongs = fn(&str) -> bool;

/// Groups of features, with the reason for each.
const REASONS: [(Belongs, &str); 4] = [
    (
        |name| super::binds_channel(name) || matches!(name, "sasl-channel-binding" | "fast"),
        "bound to the server's own TLS connection, which ends at the connection manager",
    ),
    (
        |name| matches!(name, "sm" | "urn:xmpp:sm:3" | "urn:xmpp:sm:2"),
        "xbosh answers stream management itself",
    ),
    (
        |name| name.eq_ignore_ascii_case("PLAIN"),
        "features.plain_without_tls is \"hide\"",
    ),
    (|_| true, "cannot be negotiated through BOSH"),
];

/// One clause: what was taken out, grouped by reason. Empty if nothing was.
#[must_use]
pub fn why(removed: &[String]) -> String {
    let mut groups: [Vec<&str>; REASONS.len()] = Default::default();
    for name in removed {
        let group = REASONS.iter().position(|(is, _)| is(name));
        let names = &mut groups[group.unwrap_or(REASONS.len() - 1)];
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let told: Vec<String> = groups
        .iter()
        .zip(REASONS)
        .filter(|(names, _)| !names.is_empty())
        .map(|(names, (_, reason))| format!("{} ({reason})", names.join(", ")))
        .collect();
    told.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-35, S-36: each with its reason, none twice.
    #[test]
    fn s35_reasons() {
        let removed = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(why(&[]), "");
        insta::assert_snapshot!(
            why(&removed(&["starttls", "SCRAM-SHA-1-PLUS", "sasl-channel-binding", "sm", "SCRAM-SHA-1-PLUS", "HT-SHA-256-ENDP", "PLAIN"])),
            @r#"SCRAM-SHA-1-PLUS, sasl-channel-binding, HT-SHA-256-ENDP (bound to the server's own TLS connection, which ends at the connection manager); sm (xbosh answers stream management itself); PLAIN (features.plain_without_tls is "hide"); starttls (cannot be negotiated through BOSH)"#
        );
    }
}
