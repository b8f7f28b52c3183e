//! Test support for xbosh.
