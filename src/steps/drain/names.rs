//! The names of HAProxy's backends and servers.

/// The name of a backend or server: what else stood in a command would be another argument or command.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_good) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is no name of HAProxy's: letters, digits, and any of `_.:-`"
        )),
    }
}
