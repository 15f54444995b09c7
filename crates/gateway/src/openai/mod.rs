//! The OpenAI-compatible API: its SDKs work with only the base URL and the key changed.

mod call;
mod models;

pub use self::{
    call::{chat_completions, embeddings},
    models::{get_model, list_models},
};
pub use crate::surface::openai::Failure;
