//! Exchanges against scripted peers.
