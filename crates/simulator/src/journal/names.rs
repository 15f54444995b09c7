//! Texts that repeat, kept once and named by a number.

use std::collections::HashMap;
use std::sync::Arc;

#[derive(Default)]
pub struct Names {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    /// How often a text was asked for that was known already.
    pub repeats: u64,
}

impl Names {
    pub fn of(&mut self, text: &str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            self.repeats += 1;
            return number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        let text: Arc<str> = text.into();
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    pub fn text(&self, number: usize) -> &str {
        self.texts.get(number).map_or("", |text| text)
    }
}
