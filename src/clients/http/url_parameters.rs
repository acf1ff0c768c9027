//! Secrets that stand in the query of a URL.

use super::credential_names;
use crate::config::section::{Field, Section};
use crate::model::secrets;
use crate::sys::http::Endpoint;

/// A shorter value would mask common words.
const SHORTEST: usize = 8;

/// Warns of parameters that are credentials by their names, and hides their values.
pub(super) fn warn_of_secrets(section: &Section<'_>, key: &'static str, urls: &[Field<Endpoint>]) {
    for url in urls {
        let written = url.written();
        for (name, value) in parameters(&written) {
            if value.is_empty()
                || value.contains("${")
                || credential_names::credential(name).is_none()
            {
                continue;
            }
            if value.len() >= SHORTEST {
                secrets::hide(value);
            }
            section.caution_of_plain_text(key);
            let message = format!(
                "the parameter `{name}` is a secret in a URL, which servers and proxies write into their logs: send it in \
                 `headers`, where the server takes it there"
            );
            section.caution(key, true, move |_| Err(message.clone()));
        }
    }
}

/// The names and values in the query of a URL, as they are written.
pub fn parameters(url: &str) -> impl Iterator<Item = (&str, &str)> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').filter_map(|it| it.split_once('='))
}
