use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Whole {
    types_file: Option<String>,
    other: u8,
    types: BTreeMap<String, One>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct One {
    size: u8,
    name: String,
}

const PART: Part = Part {
    key: "types_file",
    table: "types",
};

/// A directory with a configuration that names `shared.toml` beside it.
fn case(configuration: &str, shared: &str) -> (tempfile::TempDir, ConfigOptions) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("main.toml");
    let text = format!("types_file = \"shared.toml\"\n{configuration}");
    std::fs::write(&file, text).unwrap();
    std::fs::write(dir.path().join("shared.toml"), shared).unwrap();
    let options = ConfigOptions {
        file: Some(file),
        set: vec!["types.b.name=over".to_owned()],
    };
    (dir, options)
}

fn refusal(configuration: &str, shared: &str) -> Vec<String> {
    let (dir, options) = case(configuration, shared);
    let read = Layers::read("", &options, PART).and_then(|layers| layers.extract::<Whole>());
    let lines = read.unwrap_err().lines;
    let dir = format!("{}/", dir.path().display());
    lines.into_iter().map(|l| l.replace(&dir, "")).collect()
}

#[test]
fn the_file_is_found_beside_the_one_that_names_it_and_can_be_read_again() {
    let (dir, options) = case("[types.a]\nsize = 1\n", "[types.b]\nsize = 2\n");
    let layers = Layers::read("other = 7", &options, PART).unwrap();
    assert_eq!(
        layers.part_file(),
        Some(dir.path().join("shared.toml").as_path())
    );
    assert_eq!(layers.part_text(), Some("[types.b]\nsize = 2\n"));
    let whole = layers.extract::<Whole>().unwrap().value;
    assert_eq!(whole.types_file.as_deref(), Some("shared.toml"));
    assert_eq!((whole.types["a"].size, whole.types["b"].size), (1, 2));
    assert_eq!(whole.types["b"].name, "over");

    // Only the file changes: the configuration, the command line and the defaults are as they were at the start.
    std::fs::write(options.file.as_ref().unwrap(), "broken").unwrap();
    let again = layers
        .with_part("[types.b]\n[types.c]\nsize = 3\n")
        .unwrap();
    let whole = again.extract::<Whole>().unwrap().value;
    let names: Vec<_> = whole.types.keys().collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!((whole.types["c"].size, whole.other), (3, 7));
    assert_eq!(whole.types["b"].name, "over");
}

#[test]
fn every_problem_names_the_line() {
    for (shared, line) in [
        (
            "[types.x]\nsize = 1\nsiez = 2\n",
            "file shared.toml: line 3, column 1: types.x.siez: unknown key; did you mean `size`? keys here: size, name",
        ),
        (
            "[types.x]\n\n  size = \"many\"\n",
            "file shared.toml: line 3, column 3: types.x.size: found \"many\"; allowed is a whole number from 0",
        ),
        (
            "[types.x]\nsize =\n",
            "file shared.toml: line 2, column 7: not TOML: ",
        ),
        (
            "[types.x]\nsize = 1\n[types.x]\n",
            "file shared.toml: line 3, column 8: not TOML: duplicate key",
        ),
        (
            "[types.x]\n[worker]\na = 1\n",
            "file shared.toml: line 2, column 2: worker: unknown key; this file holds [types.NAME] and nothing else",
        ),
        (
            "\n[types.mine]\n",
            "file shared.toml: line 2, column 8: types.mine: is in file main.toml: line 2, column 8 too: take one away",
        ),
        (
            "# nothing\n",
            "file shared.toml: holds no [types.NAME]: add one, or leave types_file out of the configuration",
        ),
    ] {
        let lines = refusal("[types.mine]\n", shared);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with(line), "{lines:?}\nnot {line}");
    }
}

#[test]
fn what_is_no_text_of_bounded_size_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.toml");
    assert!(read_text(&path).unwrap_err().contains("cannot be read"));
    assert!(read_text(dir.path()).unwrap_err().contains("is not a file"));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(read_text(&path).unwrap_err().contains("not UTF-8"));
    std::fs::write(&path, vec![b'#'; LARGEST as usize + 1]).unwrap();
    assert!(
        read_text(&path)
            .unwrap_err()
            .contains("is over 1048576 bytes")
    );
}
