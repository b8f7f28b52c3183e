//! For what an authority can vouch: read back from disk, and as those see it who verify.

use std::process::Command;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints, SanType,
};

use xbosh_testkit::real::available::skipped;

use super::super::{authority, folder, is_address, limits};
use super::Place;

/// Names for which somebody with the key could sign, were it not for the constraints.
const OTHERS: [&str; 6] = [
    "www.bank.example",
    "sub.example.org",
    "badexample.org",
    "org",
    "a.localhost",
    "192.0.2.1",
];

/// Whoever asks these gets the same answer: the leaf holds for the domain and this machine, and what the key signs for
/// others holds for nobody.
fn judged_by(verify: impl Fn(&Place, &authority::Leaf, &str) -> Result<(), String>) {
    let place = Place::new();
    for domain in ["example.org", "xn--bcher-kva.example", "my_box"] {
        place.tls.server_config(domain).unwrap();
        let now = SystemTime::now();
        let authority = place.tls.authority(domain, now).unwrap();
        std::fs::copy(
            place.file(domain).join("ca.pem"),
            place.home.path().join("ca.pem"),
        )
        .unwrap();
        let leaf = authority.leaf(None, now).unwrap();
        for name in [domain, "localhost", "127.0.0.1", "::1"] {
            assert_eq!(verify(&place, &leaf, name), Ok(()), "{domain}: {name}");
        }
        assert!(verify(&place, &leaf, "other.example").is_err());
        for name in OTHERS {
            let forged = authority.forge(name, now);
            let said = verify(&place, &forged, name).expect_err(name);
            // Not for some other reason.
            let reasons = [
                "permitted subtree violation",
                "excluded subtree violation",
                "signer's constraints",
                "NameConstraintViolation",
            ];
            assert!(
                reasons.iter().any(|reason| said.contains(reason)),
                "{name}: {said}"
            );
        }
    }
}

/// Runs a program that is left out if it is not here.
fn judge(program: &str, place: &Place, leaf: &authority::Leaf, arguments: &[&str]) -> String {
    let pem = folder::pem_of(&leaf.chain[0]);
    std::fs::write(place.home.path().join("leaf.pem"), pem).unwrap();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(place.home.path())
        .output()
        .unwrap();
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    said.push_str(if output.status.success() {
        "\nsuccess"
    } else {
        "\nfailure"
    });
    said
}

fn is_here(program: &str) -> bool {
    let here = Command::new(program).arg("--version").output().is_ok();
    if !here {
        skipped(&format!("{program} is not installed"));
    }
    here
}

#[test]
fn openssl_agrees() {
    if !is_here("openssl") {
        return;
    }
    judged_by(|place, leaf, name| {
        let what = if is_address(name) {
            "-verify_ip"
        } else {
            "-verify_hostname"
        };
        let arguments = [
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-CAfile",
            "ca.pem",
        ];
        let chain = judge(
            "openssl",
            place,
            leaf,
            &[&arguments[..], &["leaf.pem"]].concat(),
        );
        let named = judge(
            "openssl",
            place,
            leaf,
            &[&arguments[..], &[what, name, "leaf.pem"]].concat(),
        );
        // The chain first: a wrong address would hide what is wrong with it.
        if chain.ends_with("success") && named.ends_with("success") {
            Ok(())
        } else {
            Err(chain + &named)
        }
    });
}

#[test]
fn gnutls_agrees() {
    if !is_here("certtool") {
        return;
    }
    judged_by(|place, leaf, name| {
        let mut arguments = vec!["--verify", "--infile", "leaf.pem"];
        arguments.extend(["--load-ca-certificate", "ca.pem"]);
        arguments.extend(["--verify-hostname", name]);
        // id-kp-serverAuth
        arguments.extend(["--verify-purpose", "1.3.6.1.5.5.7.3.1"]);
        let said = judge("certtool", place, leaf, &arguments);
        if said.contains("The certificate is trusted.") && said.ends_with("success") {
            Ok(())
        } else {
            Err(said)
        }
    });
}

#[test]
fn rustls_agrees() {
    judged_by(|_, leaf, name| {
        let now = SystemTime::now();
        authority::verify(&leaf.chain[1], &leaf.chain[0], name, now)
            .map_err(|error| format!("{error:?}"))
    });
}

/// An authority's parameters, and what makes them another's.
type Alter = fn(&mut CertificateParams);

/// Only what we make ourselves is used, not a company's authority that somebody put there, even with its key.
#[test]
fn only_authorities_of_our_making_are_used() {
    let names = [
        SanType::DnsName("example.org".try_into().unwrap()),
        SanType::DnsName("localhost".try_into().unwrap()),
        SanType::IpAddress([127, 0, 0, 1].into()),
        SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()),
    ];
    fn constraints(params: &mut CertificateParams) -> &mut NameConstraints {
        params.name_constraints.as_mut().unwrap()
    }
    let cases: [(&str, Alter); 11] = [
        ("", |_| {}),
        ("signs other authorities", |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }),
        ("signs other authorities", |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        }),
        ("signs other authorities, or nothing", |params| {
            params.is_ca = IsCa::ExplicitNoCa;
        }),
        ("do more than sign certificates", |params| {
            params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        }),
        ("do more than sign certificates", |params| {
            params.key_usages.clear();
        }),
        ("vouch for more than servers", |params| {
            params.extended_key_usages.clear();
        }),
        ("vouch for more than servers", |params| {
            let more = ExtendedKeyUsagePurpose::ClientAuth;
            params.extended_key_usages.push(more);
        }),
        ("vouch for other names", |params| {
            params.name_constraints = None;
        }),
        ("vouch for other names", |params| {
            let more = GeneralSubtree::DnsName("bank.example".into());
            constraints(params).permitted_subtrees.push(more);
        }),
        ("vouch for other names", |params| {
            constraints(params).excluded_subtrees.pop();
        }),
    ];
    let place = Place::new();
    place.tls.server_config("example.org").unwrap();
    for (n, (expected, alter)) in cases.into_iter().enumerate() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.name_constraints = Some(limits::of(&names));
        alter(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(place.file("example.org/ca.pem"), certificate.pem()).unwrap();
        std::fs::write(place.file("example.org/ca-key.pem"), key.serialize_pem()).unwrap();
        let used = place.again().server_config("example.org");
        if expected.is_empty() {
            used.unwrap();
        } else {
            let told = place.refused("example.org");
            assert!(
                told.contains("is no authority for example.org alone") && told.contains(expected),
                "{n}: {told}"
            );
        }
    }
}
