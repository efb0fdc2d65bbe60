# SPDX-License-Identifier: LGPL-2.1-or-later
# fish completion for xenmsg. Commands and options are what its help says, domains and endpoints what the daemon says now.
function __xenmsg_commands
    echo help
    xenmsg help 2>/dev/null | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'
end
# The command and what follows it, but for the word at the cursor.
function __xenmsg_words
    set -l words (commandline -opc)[2..-1]
    while string match -q -- '-*' "$words[1]" # options before the command
        test "$words[1]" = --socket; and set -e words[1]
        set -e words[1]
    end
    for word in $words
        echo $word
    end
end
function __xenmsg_options
    set -l words (__xenmsg_words)
    printf "%s\n" --socket --quiet --verbose --help --version
    set -l what $words[1]
    test "$what" = policy; and set -a what (string match -v -- '-*' $words[2])
    xenmsg help $what 2>/dev/null | sed '/^Examples/,$d' | grep -oE '^  +(-., )?--[a-z][a-z-]*' | grep -oE -- '--.*'
end
function __xenmsg_domains
    echo self
    timeout 2 xenmsg peers --format '%{domid}\n%{name}' 2>/dev/null | grep -vx -e -
end
# Other hosts: this one is the first.
function __xenmsg_hosts
    timeout 2 xenmsg hosts --format "%{host}$argv[1]" 2>/dev/null | sed 1d
end
# Those that take one of these kinds (a pattern of sed), as far as that is known.
function __xenmsg_addresses
    timeout 2 xenmsg endpoints --format '%{kind}\t%{address}\n%{kind}\t%{domain}:%{name}' 2>/dev/null |
        sed -n "s/^\($argv[1]\|any\|-\)\t//p" | grep -v '^-:' | sed "s/^/$argv[2]/"
end
# The fields that -o takes, as the help says, behind those that are typed.
function __xenmsg_fields
    set -l typed (string match -r '.*,' -- (commandline -ct))
    for field in (xenmsg help $argv[1] 2>/dev/null | sed -n '/--fields LIST/,/--format/{/--format/d;s/.*their order://;s/([^)]*)//g;p}' |
            tr -s ',\n ' '\n' | grep -x '[a-z_][a-z_]*')
        contains -- $field (string split , -- "$typed"); or echo "$typed$field"
    end
end
function __xenmsg_arguments
    set -l words (__xenmsg_words)
    set -l current (commandline -ct)
    if contains -- (commandline -opc)[-1] -o --fields
        __xenmsg_fields "$words[1]"
        return
    end
    switch "$words[1]"
        case ''
            __xenmsg_commands
        case help
            if test "$words[2]" = policy
                printf '%s\n' check test matrix show denied reload
            else
                __xenmsg_commands
            end
        case send
            __xenmsg_addresses message
        case call
            __xenmsg_addresses call
        case subscribe
            if test "$words[-1]" = --keep
                printf '%s\n' newest oldest
            else
                __xenmsg_addresses topic
            end
        case connect run
            __xenmsg_addresses stream
        case peers
            __xenmsg_hosts
        case endpoints watch ping
            __xenmsg_domains
            __xenmsg_hosts /
        case doctor trace
            __xenmsg_domains
            __xenmsg_addresses '.*'
        case bench
            __xenmsg_domains
        case forward
            printf '%s\n' unix: tcp: xen:
            string match -q 'xen:*' -- $current; and __xenmsg_addresses stream xen:
        case status
            test "$words[-1]" = --domain; and __xenmsg_domains
        case exporter
            test "$words[-1]" = --listen; and printf '%s\n' unix: tcp:127.0.0.1:
        case daemon
            test (count $words) = 1; and echo renew
        case policy
            if test "$words[-1]" = --domain
                __xenmsg_domains
            else if test (count $words) = 1
                printf '%s\n' check test matrix show denied reload
            else if test "$words[2]" = check -a (count $words) = 2
                __xenmsg_domains
            else if test "$words[2]" = check -a (count $words) = 3
                timeout 2 xenmsg endpoints self --format '%{name}' 2>/dev/null
            end
    end
end
function __xenmsg_wants_file
    contains -- (commandline -opc)[-1] --file --socket
end
function __xenmsg_wants_option
    string match -q -- '-*' (commandline -ct)
end
complete -c xenmsg -n 'not __xenmsg_wants_file; and not __xenmsg_wants_option' -f -a '(__xenmsg_arguments)'
complete -c xenmsg -n '__xenmsg_wants_option; and not __xenmsg_wants_file; and test (count (__xenmsg_words)) -gt 0' -f -a '(__xenmsg_options)'
complete -c xenmsg -n '__xenmsg_wants_option; and test (count (__xenmsg_words)) -eq 0' -f -a '--help --version --socket --quiet --verbose --json'
complete -c xenmsg -n __xenmsg_wants_file -F
