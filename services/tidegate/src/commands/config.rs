//! `tidegate config`: what the layers came to.

use crate::cli::ConfigArgs;
use crate::exit::Failure;
use crate::{output, settings};

/// Prints every setting with its value and where it came from.
pub fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let lines = settings::load(&args.settings)?.describe();
    if args.json {
        let text = serde_json::to_string_pretty(&lines).map_err(Failure::failed)?;
        output::line(text);
        return Ok(());
    }
    for line in lines {
        // One long value does not push every source out of sight.
        let setting = format!("{} = {}", line.key, line.value);
        output::line(format!("{setting:<48}  # {}", line.source));
    }
    Ok(())
}
