use clap::{Command, CommandFactory};

use super::Cli;

/// Help that a terminal would break, or that reads badly, is seen here.
#[test]
fn help_of_every_command() {
    let mut pages = Vec::new();
    collect(Cli::command(), "", &mut pages);
    let too_long: Vec<&str> =
        pages.iter().flat_map(|page| page.lines()).filter(|line| line.chars().count() > 100).collect();
    assert!(too_long.is_empty(), "{}", too_long.join("\n"));
    insta::assert_snapshot!(pages.join("\n\n----------\n\n"));
}

fn collect(command: Command, parent: &str, pages: &mut Vec<String>) {
    let name = format!("{parent} {}", command.get_name()).trim().to_owned();
    let mut command = command.bin_name(&name);
    // What it would print in production, whatever terminal the test runs in.
    let page = command.render_help().to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    pages.push(format!("$ {name} --help\n{page}"));
    let below: Vec<Command> =
        command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()).cloned().collect();
    for sub in below {
        collect(sub, &name, pages);
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}
