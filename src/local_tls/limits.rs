//! What an authority may vouch for, written into its certificate (RFC 5280 section 4.2.1.10) and read back from it.

use std::net::IpAddr;

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints, SanType};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions as read;

/// These names and no others. A DNS name in a constraint stands for all names below it as well; excluding those with a
/// leading dot leaves the name alone, which OpenSSL, GnuTLS, NSS and webpki understand alike.
pub(super) fn of(names: &[SanType]) -> NameConstraints {
    let mut limits = NameConstraints {
        permitted_subtrees: Vec::new(),
        excluded_subtrees: Vec::new(),
    };
    for name in names {
        match name {
            SanType::DnsName(name) => {
                let below = GeneralSubtree::DnsName(format!(".{name}"));
                limits.excluded_subtrees.push(below);
                let itself = GeneralSubtree::DnsName(name.to_string());
                limits.permitted_subtrees.push(itself);
            }
            SanType::IpAddress(address) => {
                let alone = match address {
                    IpAddr::V4(ip) => CidrSubnet::V4(ip.octets(), [255; 4]),
                    IpAddr::V6(ip) => CidrSubnet::V6(ip.octets(), [255; 16]),
                };
                let alone = GeneralSubtree::IpAddress(alone);
                limits.permitted_subtrees.push(alone);
            }
            _ => {}
        }
    }
    limits
}

/// Whether this certificate is an authority for these names and nothing else.
///
/// # Errors
/// What it is instead, for a sentence.
pub(super) fn check(certificate: &[u8], names: &[SanType]) -> Result<(), &'static str> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| "it cannot be read as a certificate")?;
    let twice = |_: X509Error| "an extension is there twice";
    let basic = certificate.basic_constraints().map_err(twice)?;
    if !basic.is_some_and(|basic| basic.value.ca && basic.value.path_len_constraint == Some(0)) {
        return Err("it signs other authorities, or nothing");
    }
    let usage = certificate.key_usage().map_err(twice)?;
    // keyCertSign is bit 5 (RFC 5280 section 4.2.1.3).
    if !usage.is_some_and(|usage| usage.critical && usage.value.flags == 1 << 5) {
        return Err("its key may do more than sign certificates");
    }
    let purposes = certificate.extended_key_usage().map_err(twice)?;
    let servers = read::ExtendedKeyUsage {
        any: false,
        server_auth: true,
        client_auth: false,
        code_signing: false,
        email_protection: false,
        time_stamping: false,
        ocsp_signing: false,
        other: Vec::new(),
    };
    if !purposes.is_some_and(|purposes| *purposes.value == servers) {
        return Err("it may vouch for more than servers");
    }
    check_names(&certificate, names)
}

fn check_names(certificate: &X509Certificate<'_>, names: &[SanType]) -> Result<(), &'static str> {
    let other = "it may vouch for other names";
    let found = certificate
        .name_constraints()
        .map_err(|_| "an extension is there twice")?
        .filter(|found| found.critical)
        .ok_or(other)?;
    let expected = of(names);
    let same = |read: &Option<Vec<read::GeneralSubtree<'_>>>, expected: &[GeneralSubtree]| {
        let read: Option<Vec<Vec<u8>>> = read.iter().flatten().map(|s| bytes(&s.base)).collect();
        let mut expected: Vec<Vec<u8>> = expected.iter().map(expected_bytes).collect();
        expected.sort();
        read.is_some_and(|mut read| {
            read.sort();
            read == expected
        })
    };
    if same(
        &found.value.permitted_subtrees,
        &expected.permitted_subtrees,
    ) && same(&found.value.excluded_subtrees, &expected.excluded_subtrees)
    {
        Ok(())
    } else {
        Err(other)
    }
}

/// A name of a certificate in a form to compare; `None` for kinds that we never write.
fn bytes(name: &read::GeneralName<'_>) -> Option<Vec<u8>> {
    match name {
        read::GeneralName::DNSName(name) => Some([b"dns:", name.as_bytes()].concat()),
        read::GeneralName::IPAddress(bytes) => Some([b"ip:", *bytes].concat()),
        _ => None,
    }
}

fn expected_bytes(subtree: &GeneralSubtree) -> Vec<u8> {
    match subtree {
        GeneralSubtree::DnsName(name) => [b"dns:", name.as_bytes()].concat(),
        GeneralSubtree::IpAddress(CidrSubnet::V4(address, mask)) => {
            [b"ip:", &address[..], mask].concat()
        }
        GeneralSubtree::IpAddress(CidrSubnet::V6(address, mask)) => {
            [b"ip:", &address[..], mask].concat()
        }
        _ => Vec::new(),
    }
}
