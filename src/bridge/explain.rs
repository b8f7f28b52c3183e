//! From the end of a session to what the client is told.

use bytes::BytesMut;

use crate::bosh::condition::BindingCondition;
use crate::bosh::{Cause, CloseReason};
use crate::stream::error::remote::{RemoteError, sanitise_remote_error, wrap_remote_error};
use crate::stream::error::{FaultReason, StreamFault, fault};
use crate::stream::ns;
use crate::xml::Element;

/// The stream error for this end; `None` for an orderly one. `opened`: the session had been created.
pub(crate) fn explain(reason: &CloseReason, opened: bool) -> Option<StreamFault> {
    match reason {
        CloseReason::Terminated { .. } | CloseReason::Ended => None,
        CloseReason::Condition {
            condition,
            text,
            stream_error,
        } => {
            if let Some(remote) = remote_error(stream_error) {
                log_other_host(&remote);
                return Some(remote.fault);
            }
            match condition {
                // T-24: ejabberd's ordinary end of a stream; inventing an error would alarm the user.
                BindingCondition::RemoteStreamError => None,
                // C-13: what the manager wrote about it.
                BindingCondition::Undefined => {
                    Some(fault(FaultReason::CmUndefined, text.as_deref()))
                }
                other => Some(fault(FaultReason::from(*other), None)),
            }
        }
        CloseReason::Failed(cause) => Some(explain_cause(cause, opened)),
    }
}

/// The stream error for a cause of giving up; `opened` as above.
pub(crate) fn explain_cause(cause: &Cause, opened: bool) -> StreamFault {
    match cause {
        Cause::Hop(failure) => sentence(FaultReason::from(failure.kind), &failure.text),
        Cause::NotBosh => fault(FaultReason::NotBosh, None),
        Cause::Redirect(to) => {
            let to = to.as_ref().map(|to| format!("to {}", without_secrets(to)));
            fault(FaultReason::UnexpectedRedirect, to.as_deref())
        }
        Cause::Status(status) => fault(
            FaultReason::from_http_status(*status, opened),
            Some(&format!("HTTP status {status}")),
        ),
        Cause::CreationReply(what) => fault(FaultReason::BadCreationReply, Some(what)),
        Cause::BadXml(what) => fault(FaultReason::BadReply, Some(what)),
        Cause::RidLimit => fault(FaultReason::RidLimit, None),
        Cause::UnknownStream => fault(
            FaultReason::BadReply,
            Some("it sent payload for another stream"),
        ),
        Cause::NoReply => fault(FaultReason::NoReply, None),
        Cause::Unrecoverable => fault(
            FaultReason::NoReply,
            Some("it asked for the same request again and again"),
        ),
    }
}

/// A hop's own sentence says all there is to say: it stands alone.
pub(super) fn sentence(reason: FaultReason, text: &str) -> StreamFault {
    let mut fault = fault(reason, None);
    if !text.is_empty() {
        fault.text = Some(text.to_owned());
    }
    fault
}

/// The transported stream error: whole, or its children in the old form.
fn remote_error(elements: &[Element]) -> Option<RemoteError> {
    if let Some(error) = elements.iter().find(|e| e.is(ns::STREAM, "error")) {
        return Some(sanitise_remote_error(&on_stream(error)));
    }
    let children: Vec<BytesMut> = elements.iter().map(on_stream).collect();
    wrap_remote_error(children.iter().map(|child| &child[..]))
}

pub(super) fn log_other_host(remote: &RemoteError) {
    if let Some(host) = &remote.other_host {
        tracing::warn!(%host, "the server asks for another host, which the client must not be told");
    }
}

/// The element as it stands on the client's stream.
pub(crate) fn on_stream(element: &Element) -> BytesMut {
    let mut out = BytesMut::with_capacity(element.len() + 64);
    element.write_for_stream(None, &mut out);
    out
}

/// A URL may carry a token in its query, or a password before its host.
fn without_secrets(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    match plain.split_once("//") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}//{host}{path}")
        }
        None => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    /// B-73: neither userinfo nor query of an address is told.
    #[test]
    fn b73_addresses_without_secrets() {
        for (url, told) in [
            ("https://a:b@cm.example/x?token=1#y", "https://cm.example/x"),
            ("https://cm.example?token=1", "https://cm.example"),
            ("//u@cm.example/x@y", "//cm.example/x@y"),
            ("/x?token=1", "/x"),
        ] {
            assert_eq!(without_secrets(url), told);
        }
    }
}
