# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_farewell_global_optspecs
    string join \n config= state= h/help V/version
end

function __fish_farewell_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_farewell_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_farewell_using_subcommand
    set -l cmd (__fish_farewell_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c farewell -n "__fish_farewell_needs_command" -l config -d 'Read only this file, without drop-ins. Default: /etc/farewell/farewell.toml and the drop-ins conf.d/*.toml of /usr/lib/farewell, /run/farewell and /etc/farewell' -r -F
complete -c farewell -n "__fish_farewell_needs_command" -l state -d 'Keep records here. Default: $STATE_DIRECTORY, else /var/lib/farewell (root) or $XDG_STATE_HOME/farewell' -r -F
complete -c farewell -n "__fish_farewell_needs_command" -s h -l help -d 'Print help'
complete -c farewell -n "__fish_farewell_needs_command" -s V -l version -d 'Print version'
complete -c farewell -n "__fish_farewell_needs_command" -f -a "check" -d 'Read the configuration and report every problem with file, line and step'
complete -c farewell -n "__fish_farewell_needs_command" -f -a "plan" -d 'Print the steps as they would run: order, what runs in parallel, deadlines, worst case'
complete -c farewell -n "__fish_farewell_needs_command" -f -a "rehearse" -d 'Check everything that a run would need, and change nothing'
complete -c farewell -n "__fish_farewell_needs_command" -f -a "start" -d 'Prepare this machine for its farewell, as farewell-start.service does at boot'
complete -c farewell -n "__fish_farewell_needs_command" -f -a "run" -d 'Run the sequence within its budget, and leave a record'
complete -c farewell -n "__fish_farewell_needs_command" -f -a "status" -d 'Show the run in progress, else the last one'
complete -c farewell -n "__fish_farewell_needs_command" -f -a "report" -d 'Show past runs, with a timeline'
complete -c farewell -n "__fish_farewell_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c farewell -n "__fish_farewell_using_subcommand check" -l config -d 'Read only this file, without drop-ins. Default: /etc/farewell/farewell.toml and the drop-ins conf.d/*.toml of /usr/lib/farewell, /run/farewell and /etc/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand check" -l state -d 'Keep records here. Default: $STATE_DIRECTORY, else /var/lib/farewell (root) or $XDG_STATE_HOME/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand check" -l image -d 'For a build machine: do not check facts and credentials of the later machine'
complete -c farewell -n "__fish_farewell_using_subcommand check" -s h -l help -d 'Print help'
complete -c farewell -n "__fish_farewell_using_subcommand plan" -l trigger -d 'The trigger to plan for' -r -f -a "poweroff\t''
halt\t''
reboot\t''
kexec\t''
soft-reboot\t''
stop\t''"
complete -c farewell -n "__fish_farewell_using_subcommand plan" -l config -d 'Read only this file, without drop-ins. Default: /etc/farewell/farewell.toml and the drop-ins conf.d/*.toml of /usr/lib/farewell, /run/farewell and /etc/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand plan" -l state -d 'Keep records here. Default: $STATE_DIRECTORY, else /var/lib/farewell (root) or $XDG_STATE_HOME/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand plan" -l json -d 'Print one JSON object'
complete -c farewell -n "__fish_farewell_using_subcommand plan" -s h -l help -d 'Print help'
complete -c farewell -n "__fish_farewell_using_subcommand rehearse" -l config -d 'Read only this file, without drop-ins. Default: /etc/farewell/farewell.toml and the drop-ins conf.d/*.toml of /usr/lib/farewell, /run/farewell and /etc/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand rehearse" -l state -d 'Keep records here. Default: $STATE_DIRECTORY, else /var/lib/farewell (root) or $XDG_STATE_HOME/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand rehearse" -l strict -d 'Fail if there are warnings'
complete -c farewell -n "__fish_farewell_using_subcommand rehearse" -l json -d 'Print one JSON object'
complete -c farewell -n "__fish_farewell_using_subcommand rehearse" -s h -l help -d 'Print help'
complete -c farewell -n "__fish_farewell_using_subcommand start" -l config -d 'Read only this file, without drop-ins. Default: /etc/farewell/farewell.toml and the drop-ins conf.d/*.toml of /usr/lib/farewell, /run/farewell and /etc/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand start" -l state -d 'Keep records here. Default: $STATE_DIRECTORY, else /var/lib/farewell (root) or $XDG_STATE_HOME/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand start" -l undo-only -d 'Only show and do the undo'
complete -c farewell -n "__fish_farewell_using_subcommand start" -l yes -d 'Do not wait until the units of the sequence are up, or a lock\'s `ready` holds'
complete -c farewell -n "__fish_farewell_using_subcommand start" -s h -l help -d 'Print help'
complete -c farewell -n "__fish_farewell_using_subcommand run" -l trigger -d 'Its trigger; detected if not given. With `restart` nothing is run, unless `restart = "run"`' -r -f -a "poweroff\t''
halt\t''
reboot\t''
kexec\t''
soft-reboot\t''
stop\t''
restart\t''"
complete -c farewell -n "__fish_farewell_using_subcommand run" -l config -d 'Read only this file, without drop-ins. Default: /etc/farewell/farewell.toml and the drop-ins conf.d/*.toml of /usr/lib/farewell, /run/farewell and /etc/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand run" -l state -d 'Keep records here. Default: $STATE_DIRECTORY, else /var/lib/farewell (root) or $XDG_STATE_HOME/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand run" -s h -l help -d 'Print help'
complete -c farewell -n "__fish_farewell_using_subcommand status" -l config -d 'Read only this file, without drop-ins. Default: /etc/farewell/farewell.toml and the drop-ins conf.d/*.toml of /usr/lib/farewell, /run/farewell and /etc/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand status" -l state -d 'Keep records here. Default: $STATE_DIRECTORY, else /var/lib/farewell (root) or $XDG_STATE_HOME/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand status" -l follow -d 'Follow the run until it ends'
complete -c farewell -n "__fish_farewell_using_subcommand status" -l json -d 'Print one JSON object, as `farewell report --json` does; `result` is `running` while the run lasts'
complete -c farewell -n "__fish_farewell_using_subcommand status" -s h -l help -d 'Print help'
complete -c farewell -n "__fish_farewell_using_subcommand report" -l config -d 'Read only this file, without drop-ins. Default: /etc/farewell/farewell.toml and the drop-ins conf.d/*.toml of /usr/lib/farewell, /run/farewell and /etc/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand report" -l state -d 'Keep records here. Default: $STATE_DIRECTORY, else /var/lib/farewell (root) or $XDG_STATE_HOME/farewell' -r -F
complete -c farewell -n "__fish_farewell_using_subcommand report" -l list -d 'List all runs, one per line, newest first'
complete -c farewell -n "__fish_farewell_using_subcommand report" -l json -d 'Print JSON: one object, with --list an array of them'
complete -c farewell -n "__fish_farewell_using_subcommand report" -s h -l help -d 'Print help'
complete -c farewell -n "__fish_farewell_using_subcommand help; and not __fish_seen_subcommand_from check plan rehearse start run status report help" -f -a "check" -d 'Read the configuration and report every problem with file, line and step'
complete -c farewell -n "__fish_farewell_using_subcommand help; and not __fish_seen_subcommand_from check plan rehearse start run status report help" -f -a "plan" -d 'Print the steps as they would run: order, what runs in parallel, deadlines, worst case'
complete -c farewell -n "__fish_farewell_using_subcommand help; and not __fish_seen_subcommand_from check plan rehearse start run status report help" -f -a "rehearse" -d 'Check everything that a run would need, and change nothing'
complete -c farewell -n "__fish_farewell_using_subcommand help; and not __fish_seen_subcommand_from check plan rehearse start run status report help" -f -a "start" -d 'Prepare this machine for its farewell, as farewell-start.service does at boot'
complete -c farewell -n "__fish_farewell_using_subcommand help; and not __fish_seen_subcommand_from check plan rehearse start run status report help" -f -a "run" -d 'Run the sequence within its budget, and leave a record'
complete -c farewell -n "__fish_farewell_using_subcommand help; and not __fish_seen_subcommand_from check plan rehearse start run status report help" -f -a "status" -d 'Show the run in progress, else the last one'
complete -c farewell -n "__fish_farewell_using_subcommand help; and not __fish_seen_subcommand_from check plan rehearse start run status report help" -f -a "report" -d 'Show past runs, with a timeline'
complete -c farewell -n "__fish_farewell_using_subcommand help; and not __fish_seen_subcommand_from check plan rehearse start run status report help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
