// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's control format: stanzas of fields, in package lists and in package sources.

/// One stanza.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stanza {
    fields: Vec<(String, String)>,
}

impl Stanza {
    /// A field's value. Continuation lines are part of it, each with its line break and first
    /// blank.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The packages in a field of relations: first alternative of each, then the others.
    #[must_use]
    pub fn relations(&self, field: &str) -> Vec<Vec<&str>> {
        let name = |relation: &'_ str| {
            relation.trim().find([' ', '(', '[', ':']).unwrap_or(relation.trim().len())
        };
        self.get(field)
            .unwrap_or_default()
            .split(',')
            .map(|all| {
                all.split('|').map(|r| &r.trim()[..name(r)]).filter(|n| !n.is_empty()).collect()
            })
            .filter(|alternatives: &Vec<_>| !alternatives.is_empty())
            .collect()
    }
}

/// The stanzas of `text`. Comment lines and lines that are none of the format are passed over, as
/// apt does.
#[must_use]
pub fn parse(text: &str) -> Vec<Stanza> {
    let mut stanzas = Vec::new();
    let mut current = Stanza::default();
    for line in text.lines().filter(|line| !line.starts_with('#')).chain([""]) {
        if line.trim().is_empty() {
            if !current.fields.is_empty() {
                stanzas.push(std::mem::take(&mut current));
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = current.fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            current.fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    stanzas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_are_separated_by_blank_lines() {
        let stanzas =
            parse("\nPackage: a\nVersion: 1\n\n\n# note\nPackage: b\nDescription: x\n more\n .\n");
        assert_eq!(stanzas.len(), 2);
        assert_eq!(stanzas[0].get("version"), Some("1"));
        assert_eq!(stanzas[1].get("Description"), Some("x\n more\n ."));
        assert_eq!(stanzas[1].get("Version"), None);
    }

    #[test]
    fn relations_lose_versions_and_keep_alternatives() {
        let stanza = &parse(
            "Depends: linux-base (>= 4.12~), a:amd64, image (= 1) | image-unsigned (= 1), gcc-12\n",
        )[0];
        assert_eq!(
            stanza.relations("Depends"),
            [vec!["linux-base"], vec!["a"], vec!["image", "image-unsigned"], vec!["gcc-12"]]
        );
        assert!(stanza.relations("Recommends").is_empty());
    }
}
