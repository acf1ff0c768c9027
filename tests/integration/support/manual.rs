//! The manual, as tests read it.

use std::path::Path;

/// The text of a page: `units/manual/PAGE.md`.
pub fn page(page: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("units/manual/{page}.md"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The blocks of a page in this language, in order.
pub fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = self::page(page);
    let opening = format!("```{language}\n");
    let blocks = text.split(&opening).skip(1);
    blocks
        .map(|rest| rest.split("\n```").next().unwrap_or_default().to_owned() + "\n")
        .collect()
}

/// The page's example: a whole configuration, as it stands.
pub fn example(page: &str) -> String {
    let mut blocks = blocks(page, "toml");
    assert!(
        !blocks.is_empty(),
        "units/manual/{page}.md has no example in TOML"
    );
    blocks.remove(0)
}
