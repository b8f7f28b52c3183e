//! The XML we accept (RFC 6120 section 11) and its limits.
