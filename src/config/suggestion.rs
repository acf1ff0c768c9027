//! Suggestions for misspelt words.

/// The known word closest to `word`, if it is close enough for a misspelling.
pub fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The suggestion as the end of a message; empty if there is none.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    suggestion(word, known).map_or_else(String::new, |it| format!("; did you mean `{it}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        assert_eq!(suggestion("htpp", ["http", "wait"]), Some("http"));
        assert_eq!(
            suggestion("time-out", ["timeout", "attempts"]),
            Some("timeout")
        );
        assert_eq!(suggestion("zebra", ["http", "wait"]), None);
        assert_eq!(
            did_you_mean("htpp", ["http", "wait"]),
            "; did you mean `http`?"
        );
    }
}
