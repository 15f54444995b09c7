//! Rows in COPY's binary form, the cheapest way to write many: no text to format here, none to parse there. The caller
//! fills a buffer of its own and sends it with [`send`].
//!
//! Format: <https://www.postgresql.org/docs/15/sql-copy.html>, "Binary Format".

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Seconds from 1970-01-01 to 2000-01-01, PostgreSQL's own epoch.
const EPOCH_SHIFT_US: i64 = 946_684_800_000_000;
const EPOCH_SHIFT_DAYS: i32 = 10_957;

/// A buffer of rows that all have the same columns.
#[derive(Debug)]
pub struct Rows {
    data: Vec<u8>,
    columns: i16,
    count: usize,
}

impl Rows {
    pub fn new(columns: i16, capacity: usize) -> Self {
        let mut data = Vec::with_capacity(capacity.max(HEADER.len()));
        data.extend_from_slice(HEADER);
        Self { data, columns, count: 0 }
    }

    /// Begins a row; exactly `columns` fields must follow.
    pub fn row(&mut self) -> Row<'_> {
        self.data.extend_from_slice(&self.columns.to_be_bytes());
        self.count += 1;
        Row { data: &mut self.data }
    }

    pub fn len(&self) -> usize {
        self.count
    }
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    pub fn bytes(&self) -> usize {
        self.data.len()
    }
    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.data.truncate(HEADER.len());
        self.count = 0;
    }
    fn finish(&mut self) -> &[u8] {
        self.data.extend_from_slice(&(-1i16).to_be_bytes());
        &self.data
    }
}

pub struct Row<'a> {
    data: &'a mut Vec<u8>,
}

impl Row<'_> {
    fn field(&mut self, bytes: &[u8]) -> &mut Self {
        let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        self.data.reserve(4 + bytes.len());
        self.data.extend_from_slice(&length.to_be_bytes());
        self.data.extend_from_slice(bytes);
        self
    }
    /// Of a size that is known here, length and all in one piece: most of a ledger row is numbers.
    fn fixed<const N: usize, const ALL: usize>(&mut self, bytes: [u8; N]) -> &mut Self {
        const { assert!(ALL == N + 4) };
        let mut all = [0; ALL];
        all[..4].copy_from_slice(&(N as i32).to_be_bytes());
        all[4..].copy_from_slice(&bytes);
        self.data.extend_from_slice(&all);
        self
    }
    pub fn null(&mut self) -> &mut Self {
        self.data.extend_from_slice(&(-1i32).to_be_bytes());
        self
    }
    /// One column from an option: `row.some(value, |row, v| row.i64(v))`.
    pub fn some<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T) -> &mut Self) -> &mut Self {
        match value {
            Some(value) => put(self, value),
            None => self.null(),
        }
    }
    pub fn i16(&mut self, value: i16) -> &mut Self {
        self.fixed::<2, 6>(value.to_be_bytes())
    }
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.fixed::<4, 8>(value.to_be_bytes())
    }
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.fixed::<8, 12>(value.to_be_bytes())
    }
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.fixed::<1, 5>([u8::from(value)])
    }
    /// text; the caller has made sure that there is no NUL in it, which PostgreSQL cannot store.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.field(value.as_bytes())
    }
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.field(value)
    }
    pub fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.fixed::<16, 20>(*value.as_bytes())
    }
    pub fn time(&mut self, value: DateTime<Utc>) -> &mut Self {
        self.i64(value.timestamp_micros() - EPOCH_SHIFT_US)
    }
    pub fn date(&mut self, value: NaiveDate) -> &mut Self {
        self.i32(value.to_epoch_days() - EPOCH_SHIFT_DAYS)
    }
}

/// Sends the rows by `statement` (`copy t (…) from stdin (format binary)`), inside the connection's transaction, and empties
/// the buffer. Gives the number of rows the server took.
pub async fn send(conn: &mut PgConnection, statement: &'static str, rows: &mut Rows) -> sqlx::Result<u64> {
    if rows.is_empty() {
        return Ok(0);
    }
    let mut copy = conn.copy_in_raw(statement).await?;
    let sent = copy.send(rows.finish()).await.map(|_| ());
    rows.clear();
    match sent {
        Ok(()) => copy.finish().await,
        Err(error) => {
            // The server must leave copy mode before the connection can be used or rolled back.
            let _ = copy.abort("the rows could not be sent").await;
            Err(error)
        }
    }
}
