//! Guesses at what a misspelt word was meant to be.

/// `; did you mean `x`?` for the known word that is nearest to `word`, or nothing when none is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, candidate)| {
            format!("; did you mean `{candidate}`?")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        assert_eq!(
            did_you_mean("htpp", ["http", "wait"]),
            "; did you mean `http`?"
        );
        assert_eq!(
            did_you_mean("time-out", ["timeout", "attempts"]),
            "; did you mean `timeout`?"
        );
        assert_eq!(did_you_mean("zebra", ["http", "wait"]), "");
    }
}
