//! A request as the manager reads it, by a reader of its own: the session's own parser judges nothing here.

/// A stanza of the client: its element's name and its number (`id='u…'`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Up {
    pub(crate) name: String,
    pub(crate) number: u32,
}

/// One `<body/>` of the client.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) rid: u64,
    pub(crate) sid: Option<String>,
    pub(crate) ack: Option<u64>,
    /// What is asked for at creation.
    pub(crate) wait: Option<u64>,
    pub(crate) terminate: bool,
    pub(crate) restart: bool,
    pub(crate) key: Option<String>,
    pub(crate) new_key: Option<String>,
    /// Attributes that this client never sends.
    pub(crate) strange: Vec<String>,
    pub(crate) stanzas: Vec<Up>,
    /// What is inside, as it came.
    pub(crate) inner: String,
}

impl Request {
    pub(crate) fn is_creation(&self) -> bool {
        self.sid.is_none()
    }

    /// A poll: nothing inside and nothing asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.sid.is_some() && self.inner.is_empty() && !self.terminate && !self.restart
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
        let open = text.strip_prefix("<body").ok_or("no <body>")?;
        let (head, rest) = open.split_once('>').ok_or("no end of <body>")?;
        let (head, inner) = match head.strip_suffix('/') {
            Some(head) => (head, ""),
            None => (head, rest.strip_suffix("</body>").ok_or("no </body>")?),
        };
        let mut request = Self {
            rid: 0,
            sid: None,
            ack: None,
            wait: None,
            terminate: false,
            restart: false,
            key: None,
            new_key: None,
            strange: Vec::new(),
            stanzas: stanzas(inner)?,
            inner: inner.to_owned(),
        };
        let number = |value: &str| value.parse::<u64>().map_err(|e| format!("{value}: {e}"));
        let mut parts = head.split('\'');
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            match name.trim().trim_end_matches('=') {
                "rid" => request.rid = number(value)?,
                "sid" => request.sid = Some(value.to_owned()),
                "wait" => request.wait = Some(number(value)?),
                "ack" => request.ack = Some(number(value)?),
                "key" => request.key = Some(value.to_owned()),
                "newkey" => request.new_key = Some(value.to_owned()),
                "type" if value == "terminate" => request.terminate = true,
                "xmpp:restart" if value == "true" => request.restart = true,
                "xmlns" | "xmlns:xmpp" | "to" | "ver" | "hold" | "xml:lang" | "xmpp:version" => {}
                other => request.strange.push(format!("{other}='{value}'")),
            }
        }
        Ok(request)
    }
}

fn stanzas(inner: &str) -> Result<Vec<Up>, String> {
    inner
        .match_indices(" id='u")
        .map(|(at, mark)| {
            let digits = &inner[at + mark.len()..];
            let digits = digits.split('\'').next().unwrap_or_default();
            let start = inner[..at].rfind('<').ok_or("an id outside an element")?;
            let name = inner[start + 1..at].split(' ').next().unwrap_or_default();
            Ok(Up {
                name: name.to_owned(),
                number: digits.parse().map_err(|e| format!("id u{digits}: {e}"))?,
            })
        })
        .collect()
}
