// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Makes unpacked headers work where they are: their Makefile includes another one by its absolute
//! path under /usr/src.

use std::fs;
use std::path::Path;

use super::{Error, io_error};

/// Point the Makefile of the headers in `build` to the common headers that lie in `root/usr/src`.
/// Does nothing when it already does.
pub fn relocate(build: &Path, root: &Path) -> Result<(), Error> {
    let makefile = build.join("Makefile");
    let text = fs::read_to_string(&makefile).map_err(io_error(&makefile))?;
    let moved = rewrite(&text, root).ok_or_else(|| Error::NoBuildDir {
        path: build.to_owned(),
        what: format!(
            "its Makefile includes no Makefile of common headers: {:?}",
            text.lines().next().unwrap_or_default()
        ),
    })?;
    if moved == text {
        return Ok(());
    }
    fs::write(&makefile, moved).map_err(io_error(&makefile))
}

fn rewrite(text: &str, root: &Path) -> Option<String> {
    let mut found = false;
    let lines: Vec<_> = text
        .lines()
        .map(|line| {
            // The output directory is named since 7.x.
            let moved = ["include ", "KBUILD_OUTPUT="].into_iter().find_map(|start| {
                let path = line.strip_prefix(start)?;
                found |= start == "include " && path.contains("/usr/src/");
                Some(format!("{start}{}{}", root.display(), &path[path.find("/usr/src/")?..]))
            });
            moved.unwrap_or_else(|| line.to_owned())
        })
        .collect();
    found.then(|| lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_include_is_moved_and_stays_movable() {
        let original = "include /usr/src/linux-headers-6.1.0-56-common/Makefile\n";
        let moved = rewrite(original, Path::new("/a")).expect("an include");
        assert_eq!(moved, "include /a/usr/src/linux-headers-6.1.0-56-common/Makefile\n");
        assert_eq!(rewrite(&moved, Path::new("/a")).as_deref(), Some(moved.as_str()));
        let again = rewrite(&moved, Path::new("/b")).expect("an include");
        assert_eq!(again, "include /b/usr/src/linux-headers-6.1.0-56-common/Makefile\n");
    }

    #[test]
    fn the_output_directory_is_moved_too() {
        let original = "KBUILD_OUTPUT=/usr/src/linux-headers-7.3.4\ninclude /usr/src/linux-headers-7.3.4-common/Makefile\n";
        let moved = "KBUILD_OUTPUT=/a/usr/src/linux-headers-7.3.4\ninclude /a/usr/src/linux-headers-7.3.4-common/Makefile\n";
        assert_eq!(rewrite(original, Path::new("/a")).as_deref(), Some(moved));
    }

    #[test]
    fn a_makefile_of_another_kind_is_refused() {
        assert_eq!(rewrite("all:\n\techo\n", Path::new("/a")), None);
    }
}
