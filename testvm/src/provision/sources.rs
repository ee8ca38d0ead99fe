// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's own package sources, in both of apt's formats, and what of them a kernel needs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use super::control;

/// One source of binary packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Archive.
    pub uri: String,
    /// Suite, for example `bookworm-updates`.
    pub suite: String,
    /// Components.
    pub components: Vec<String>,
    /// Further fields of the deb822 format, as they are written there (`Signed-By`, possibly with a whole key).
    pub options: Vec<(String, String)>,
}

/// Options that say how an archive is trusted and reached; all others do not matter here.
const KEPT_OPTIONS: [&str; 6] =
    ["Signed-By", "Trusted", "Check-Valid-Until", "Allow-Insecure", "Allow-Weak", "Check-Date"];

/// All sources in `dir` (normally `/etc/apt`): `sources.list`, `sources.list.d/*.list` and `sources.list.d/*.sources`.
///
/// # Errors
/// A file cannot be read; a missing one is none.
pub fn read_all(dir: &Path) -> io::Result<Vec<Source>> {
    let mut sources = match fs::read_to_string(dir.join("sources.list")) {
        Ok(text) => parse_list(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut parts = match fs::read_dir(dir.join("sources.list.d")) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    parts.sort();
    for path in parts {
        match path.extension().and_then(|e| e.to_str()) {
            Some("list") => sources.extend(parse_list(&fs::read_to_string(&path)?)),
            Some("sources") => sources.extend(parse_deb822(&fs::read_to_string(&path)?)),
            _ => {}
        }
    }
    Ok(sources)
}

/// The one-line format: `deb [option=value ...] uri suite component...`.
#[must_use]
pub fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(|line| parse_line(line.split('#').next().unwrap_or_default())).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let mut rest = line.trim().strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t']) {
        return None; // deb-src
    }
    rest = rest.trim_start();
    let mut options = Vec::new();
    if let Some(bracketed) = rest.strip_prefix('[') {
        let (inside, after) = bracketed.split_once(']')?;
        for (key, value) in inside.split_whitespace().filter_map(|word| word.split_once('=')) {
            if let Some(name) = KEPT_OPTIONS.iter().find(|name| name.eq_ignore_ascii_case(key)) {
                options.push(((*name).to_owned(), value.replace(',', " ")));
            }
        }
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source { uri: words.next()?, suite: words.next()?, components: words.collect(), options })
}

/// The deb822 format.
#[must_use]
pub fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for stanza in control::parse(text) {
        let words = |field: &str| -> Vec<String> {
            stanza.get(field).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        let disabled = stanza.get("Enabled").is_some_and(|v| matches!(v.trim(), "no" | "false" | "0" | "off"));
        if disabled || !words("Types").iter().any(|t| t == "deb") {
            continue;
        }
        let options: Vec<_> =
            KEPT_OPTIONS.iter().filter_map(|name| Some(((*name).to_owned(), stanza.get(name)?.to_owned()))).collect();
        for uri in words("URIs") {
            for suite in words("Suites") {
                let (components, options) = (words("Components"), options.clone());
                sources.push(Source { uri: uri.clone(), suite, components, options });
            }
        }
    }
    sources
}

/// What of `all` serves the release `codename`: the Debian archive's own suites of it and, on the same mirror, its backports
/// when they are wanted. Each archive and suite once.
#[must_use]
pub fn select(all: &[Source], codename: &str, backports: bool) -> Vec<Source> {
    let mut selected = Vec::new();
    let mut seen = BTreeSet::new();
    for source in all.iter().filter(|s| is_debian(s)) {
        let Some(suite) = suite_of(&source.suite, codename) else { continue };
        let mut wanted = vec![suite.clone()];
        if backports && suite == codename {
            wanted.push(format!("{codename}-backports"));
        }
        for suite in wanted {
            if seen.insert((source.uri.trim_end_matches('/').to_owned(), suite.clone())) {
                selected.push(Source { suite, components: vec!["main".to_owned()], ..source.clone() });
            }
        }
    }
    selected
}

/// Debian's archive or a mirror of it. Third parties use Debian's code names for suites too, but neither Debian's path nor its key.
fn is_debian(source: &Source) -> bool {
    let reachable = !source.uri.starts_with("cdrom:");
    let main = source.components.iter().any(|c| c == "main");
    let by_key = source.options.iter().any(|(name, value)| name == "Signed-By" && value.contains("debian-archive"));
    reachable && main && (by_key || source.uri.contains("debian"))
}

/// The suite by code name, if it belongs to the release: an archive that is subscribed to as `stable` has it as well.
fn suite_of(suite: &str, codename: &str) -> Option<String> {
    let suite = suite.trim_end_matches('/');
    let (base, rest) = match suite.find(['-', '/']) {
        Some(at) => suite.split_at(at),
        None => (suite, ""),
    };
    let ours = base == codename || ["stable", "oldstable", "testing"].contains(&base);
    (ours && ["", "-updates", "-security", "/updates"].contains(&rest)).then(|| format!("{codename}{rest}"))
}

/// `sources` in the deb822 format, for a private apt configuration.
#[must_use]
pub fn render(sources: &[Source]) -> String {
    let mut text = String::new();
    for Source { uri, suite, components, options } in sources {
        let components = components.join(" ");
        // Only the lists of packages: no translations, no icons, no contents.
        let _ = write!(
            text,
            "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {components}\nArchitectures: amd64\nTargets: Packages\n"
        );
        for (name, value) in options {
            let gap = if value.starts_with('\n') { "" } else { " " };
            let _ = writeln!(text, "{name}:{gap}{value}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
# a comment
deb http://mirror.example/debian bookworm main contrib # trailing
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://mirror.example/pub bookworm-updates main
deb cdrom:[Debian GNU/Linux 12]/ bookworm main
deb http://security.example/debian-security bookworm-security main
deb https://packages.example/apt cloud-sdk-bookworm main
deb https://download.docker.com/linux/debian bookworm stable
deb https://apt.example.com bookworm main
";

    const SOURCES: &str = "\
Types: deb deb-src
# http://snapshot.example/archive/debian/20250520T000000Z
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security/
Suites: bookworm-security
Components: main non-free-firmware
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm-proposed-updates
Components: main
";

    fn suites(sources: &[Source]) -> Vec<(&str, &str)> {
        sources.iter().map(|s| (s.uri.as_str(), s.suite.as_str())).collect()
    }

    #[test]
    fn of_a_list_only_debian_s_own_entries_are_taken() {
        let selected = select(&parse_list(LIST), "bookworm", false);
        assert_eq!(
            suites(&selected),
            [
                ("http://mirror.example/debian", "bookworm"),
                ("https://mirror.example/pub", "bookworm-updates"),
                ("http://security.example/debian-security", "bookworm-security"),
            ]
        );
        assert_eq!(
            selected[1].options,
            [("Signed-By".into(), "/usr/share/keyrings/debian-archive-keyring.gpg".into())]
        );
        assert!(selected.iter().all(|s| s.components == ["main"]));
    }

    #[test]
    fn backports_come_from_the_release_s_own_mirror_with_its_key() {
        let selected = select(&parse_deb822(SOURCES), "bookworm", true);
        assert_eq!(
            suites(&selected),
            [
                ("http://mirror.example/debian", "bookworm"),
                ("http://mirror.example/debian", "bookworm-backports"),
                ("http://mirror.example/debian", "bookworm-updates"),
                ("http://mirror.example/debian-security/", "bookworm-security"),
            ]
        );
        assert_eq!(selected[0].options, selected[1].options);
    }

    #[test]
    fn configured_twice_is_taken_once() {
        let mut all = parse_deb822(SOURCES);
        all.extend(parse_list("deb http://mirror.example/debian/ bookworm main\n"));
        assert_eq!(select(&all, "bookworm", true).len(), 4);
    }

    #[test]
    fn a_machine_that_follows_stable_gets_its_code_name() {
        let selected = select(&parse_list("deb http://ftp.de.debian.org/debian stable main\n"), "trixie", true);
        assert_eq!(selected.iter().map(|s| s.suite.as_str()).collect::<Vec<_>>(), ["trixie", "trixie-backports"]);
    }

    #[test]
    fn another_release_is_not_taken() {
        assert!(select(&parse_list(LIST), "trixie", true).is_empty());
    }

    #[test]
    fn what_is_rendered_reads_back_the_same_with_keys_inside() {
        let selected = select(&parse_deb822(SOURCES), "bookworm", true);
        let text = render(&selected);
        assert!(text.contains("Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDME"), "{text}");
        assert_eq!(parse_deb822(&text), selected);
    }

    #[test]
    fn both_formats_are_found_in_a_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(read_all(dir.path()).expect("no files are no error").is_empty());
        fs::write(dir.path().join("sources.list"), LIST).expect("a file");
        fs::create_dir(dir.path().join("sources.list.d")).expect("a directory");
        fs::write(dir.path().join("sources.list.d/debian.sources"), SOURCES).expect("a file");
        fs::write(dir.path().join("sources.list.d/old.list.save"), LIST).expect("a file");
        assert_eq!(read_all(dir.path()).expect("sources").len(), parse_list(LIST).len() + 3);
    }
}
