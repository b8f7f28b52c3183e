//! The BOSH session (XEP-0124, XEP-0206) as a state machine without I/O.

pub mod condition;
pub mod failure;
