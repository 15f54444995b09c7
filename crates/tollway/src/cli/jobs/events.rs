//! Server-sent events, read from pieces of any size.

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    pub name: String,
    pub data: String,
    pub id: Option<String>,
}

/// Text that has not become an event yet.
#[derive(Debug, Default)]
pub struct Events {
    rest: Vec<u8>,
    building: Event,
}

impl Events {
    /// The events that these bytes complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut start = 0;
        while let Some(length) = self.rest[start..].iter().position(|byte| *byte == b'\n') {
            let line = &self.rest[start..start + length];
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
            start += length + 1;
            events.extend(self.building.take(&line));
        }
        self.rest.drain(..start);
        events
    }
}

impl Event {
    fn take(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = std::mem::take(self);
            return (!event.data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "id" => self.id = Some(value.to_owned()),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments keep the connection alive.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_they_were_cut() {
        let text =
            ": hello\n\nevent: progress\r\nid: 7\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nevent:end\ndata:é\n\nevent: cut";
        let expected = [
            Event { name: "progress".into(), data: "{\"a\":\n1}".into(), id: Some("7".into()) },
            Event { name: "end".into(), data: "é".into(), id: None },
        ];
        for size in 1..text.len() {
            let mut events = Events::default();
            let found: Vec<Event> = text.as_bytes().chunks(size).flat_map(|piece| events.push(piece)).collect();
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }
}
