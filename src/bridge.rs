//! One client stream and one BOSH session, joined; no I/O.
