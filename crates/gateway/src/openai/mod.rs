//! The OpenAI-compatible API: its SDKs work with only the base URL and the key changed.

mod call;
mod failure;
mod models;

pub use self::{
    call::{chat_completions, embeddings},
    failure::Failure,
    models::{get_model, list_models},
};
