//! The blocks of a page that hold commands, and how each of them is tested.

/// What a block runs beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    Nothing,
    Dev,
    Servers,
}

/// How a block is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    Run { beside: Beside, until: bool },
    DevOutput,
    Elsewhere(Vec<String>),
    Containers,
}

/// A command and what it prints; `None`: the page does not say what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Counted from 1.
    pub line: usize,
    pub text: String,
    pub prints: Option<String>,
}

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Of its first line of text.
    pub line: usize,
    pub console: bool,
    pub how: How,
    pub text: String,
}

const COMMANDS: [&str; 4] = ["console", "sh", "shell", "bash"];
/// How a command begins that somebody might put into a block by indentation alone, where no comment can mark it.
const LIKE_COMMANDS: [&str; 7] = [
    "$ ",
    "tidegate ",
    "scripts/",
    "curl ",
    "docker ",
    "cargo ",
    "kcat ",
];

/// The blocks of a page that are to be tested.
///
/// # Errors
/// A line each for blocks without a marker, markers that are not known, and commands outside of blocks.
pub fn read(page: &str) -> Result<Vec<Block>, Vec<String>> {
    let (mut blocks, mut wrong) = (Vec::new(), Vec::new());
    let mut marker: Option<(usize, &str)> = None;
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let number = number + 1;
        let text = line.trim();
        if let Some(rest) = text.strip_prefix("<!-- test:") {
            marker = Some((number, rest.trim_end_matches("-->").trim()));
            continue;
        }
        if let Some(language) = text.strip_prefix("```") {
            let indent = line.len() - line.trim_start().len();
            let mut inside = String::new();
            for (_, line) in lines.by_ref() {
                if line.trim().starts_with("```") {
                    break;
                }
                inside.push_str(line.get(indent..).unwrap_or(line.trim_start()));
                inside.push('\n');
            }
            match block(language.trim(), number + 1, marker.take(), inside) {
                Ok(block) => blocks.extend(block),
                Err(problem) => wrong.push(problem),
            }
            continue;
        }
        if let (Some((at, _)), false) = (marker, text.is_empty()) {
            wrong.push(format!("line {at}: the marker is not followed by a block"));
            marker = None;
        }
        let indented = line.strip_prefix("    ").map(str::trim_start);
        if indented.is_some_and(|line| LIKE_COMMANDS.iter().any(|start| line.starts_with(start))) {
            wrong.push(format!(
                "line {number}: a command in no block: fence it, so that it can be marked"
            ));
        }
    }
    if wrong.is_empty() {
        Ok(blocks)
    } else {
        Err(wrong)
    }
}

fn block(
    language: &str,
    line: usize,
    marker: Option<(usize, &str)>,
    text: String,
) -> Result<Option<Block>, String> {
    let commands = COMMANDS.contains(&language);
    let how = match (commands, marker) {
        (false, None) => return Ok(None),
        (true, None) => {
            return Err(format!(
                "line {line}: the block says nowhere how it is tested: put `<!-- test: … -->` above it"
            ));
        }
        (_, Some((at, words))) => {
            how(words).ok_or_else(|| format!("line {at}: unknown marker `{words}`"))?
        }
    };
    if commands == (how == How::DevOutput) {
        return Err(format!(
            "line {line}: this marker does not go with a block of `{language}`"
        ));
    }
    let console = language == "console";
    Ok(Some(Block {
        line,
        console,
        how,
        text,
    }))
}

fn how(words: &str) -> Option<How> {
    let (words, until) = match words.strip_suffix(", until") {
        Some(words) => (words, true),
        None => (words, false),
    };
    let run = |beside| Some(How::Run { beside, until });
    match words {
        "dev" => run(Beside::Dev),
        "servers" => run(Beside::Servers),
        "shell" => run(Beside::Nothing),
        "dev-output" if !until => Some(How::DevOutput),
        "containers" if !until => Some(How::Containers),
        _ => {
            let files = words.strip_prefix("elsewhere ")?.split_whitespace();
            (!until).then(|| How::Elsewhere(files.map(str::to_owned).collect()))
        }
    }
}

impl Block {
    /// Its commands in order. `whole` says whether a text is a whole command or goes on in the next line.
    pub fn commands(&self, whole: impl Fn(&str) -> bool) -> Vec<Command> {
        let mut commands: Vec<Command> = Vec::new();
        let mut open = false;
        for (offset, line) in self.text.lines().enumerate() {
            let typed = match line.strip_prefix("$ ") {
                _ if open => Some(line),
                Some(typed) if self.console => Some(typed),
                _ if self.console => None,
                _ if line.trim().is_empty() || line.trim_start().starts_with('#') => continue,
                _ => Some(line),
            };
            match (typed, commands.last_mut()) {
                (Some(typed), Some(command)) if open => {
                    command.text.push('\n');
                    command.text.push_str(typed);
                }
                (Some(typed), _) => commands.push(Command {
                    line: self.line + offset,
                    text: typed.to_owned(),
                    prints: self.console.then(String::new),
                }),
                (None, Some(command)) => {
                    let prints = command.prints.get_or_insert_default();
                    prints.push_str(line);
                    prints.push('\n');
                }
                (None, None) => {}
            }
            if typed.is_some() {
                open = commands
                    .last()
                    .is_some_and(|command| command.text.ends_with('\\') || !whole(&command.text));
            }
        }
        commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "
Text.

<!-- test: dev, until -->
```console
$ curl -s \\
    http://127.0.0.1:8080/
{\"a\":1}

{\"b\":2}
$ true
```

<!-- test: shell -->

```sh
# a comment
for x in 1 2; do
  echo $x
done
tidegate config   # why
```

```rust
fn main() {}
```

- a list
  <!-- test: elsewhere .ci/run scripts/test -->
  ```sh
  scripts/test
  ```

<!-- test: dev-output -->
```text
Ready.
```
";

    #[test]
    fn blocks_are_found_with_their_commands() {
        let blocks = read(PAGE).unwrap();
        assert_eq!(blocks.len(), 4);
        let dev = How::Run {
            beside: Beside::Dev,
            until: true,
        };
        assert_eq!((blocks[0].line, &blocks[0].how), (6, &dev));
        let commands = blocks[0].commands(|_| true);
        assert_eq!(commands.len(), 2);
        assert_eq!(commands[0].text, "curl -s \\\n    http://127.0.0.1:8080/");
        assert_eq!(
            commands[0].prints.as_deref(),
            Some("{\"a\":1}\n\n{\"b\":2}\n")
        );
        assert_eq!(
            (commands[1].line, commands[1].prints.as_deref()),
            (11, Some(""))
        );

        let commands =
            blocks[1].commands(|text| !text.starts_with("for") || text.ends_with("done"));
        let texts: Vec<_> = commands
            .iter()
            .map(|command| command.text.as_str())
            .collect();
        assert_eq!(
            texts,
            [
                "for x in 1 2; do\n  echo $x\ndone",
                "tidegate config   # why"
            ]
        );
        assert_eq!(commands[1].prints, None);

        let files = vec![".ci/run".to_owned(), "scripts/test".to_owned()];
        assert_eq!(blocks[2].how, How::Elsewhere(files));
        assert_eq!(blocks[2].text, "scripts/test\n");
        assert_eq!(blocks[3].how, How::DevOutput);
    }

    #[test]
    fn what_cannot_be_tested_is_an_error() {
        let errors = |page: &str| read(page).unwrap_err().join("\n");
        assert!(errors("```sh\nls\n```").contains("says nowhere"));
        assert!(errors("<!-- test: maybe -->\n```sh\nls\n```").contains("unknown marker `maybe`"));
        assert!(
            errors("<!-- test: containers, until -->\n```sh\nls\n```").contains("unknown marker")
        );
        assert!(errors("<!-- test: dev -->\n\ntext").contains("not followed"));
        assert!(errors("<!-- test: dev-output -->\n```sh\nls\n```").contains("does not go"));
        assert!(errors("<!-- test: dev -->\n```text\nls\n```").contains("does not go"));
        assert!(errors("text\n\n    scripts/kafka up\n").contains("in no block"));
        assert_eq!(read("    [types.echo]\n").unwrap(), []);
    }
}
