//! The wire formats of calls, pure: a body is parsed once, from bytes that the caller keeps, into what the rest of Tollway needs of
//! it. Nothing is copied, and on its way out a body is edited in place: all that was not read goes to the provider as it came.
//!
//! ```
//! use domain::Endpoint;
//! let body = r#"{"model":"chat","messages":[{"role":"user","content":"Hi"}],"max_tokens":50,"n":2}"#;
//! let call = wire::Call::parse(Endpoint::ChatCompletions, body)?;
//! assert_eq!((&*call.model, call.output.in_all(8_192)), ("chat", Some(100)));
//! # Ok::<(), wire::BadCall>(())
//! ```

#![warn(clippy::unwrap_used)]

mod bad;
mod call;
mod json;
mod layout;
mod line;
pub mod media;
pub mod object;
mod openai;
mod output;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;
mod upload;

pub use bad::{BadCall, BadLine, LONGEST_CUSTOM_ID};
pub use call::{Call, Format};
pub use json::{Flaw, Kind};
pub use layout::{Edit, Layout, splice};
pub use line::{RequestLine, endpoint_of};
pub use media::{ImageRule, Input};
pub use output::{MAX_CHOICES, MAX_OUTPUT, Output, UNKNOWN_MAX_OUTPUT};
pub use upload::is_utf16;
