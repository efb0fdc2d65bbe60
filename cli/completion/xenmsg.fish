# SPDX-License-Identifier: LGPL-2.1-or-later
# fish completion for xenmsg. Commands and options are what its help says, domains and endpoints what the daemon says now.
function __xenmsg_commands
    echo help
    xenmsg help 2>/dev/null | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'
end
function __xenmsg_options
    set -l words (commandline -opc)
    echo --socket
    xenmsg help $words[2] 2>/dev/null | grep -oE -- '--[a-z][a-z-]*'
end
function __xenmsg_domains
    echo self
    timeout 2 xenmsg peers --format '%{domid}\n%{name}' 2>/dev/null | grep -vx -e -
end
function __xenmsg_hosts
    timeout 2 xenmsg hosts --format '%{host}' 2>/dev/null | sed 1d
end
function __xenmsg_addresses
    timeout 2 xenmsg endpoints --format '%{kind}\t%{address}\n%{kind}\t%{domain}:%{name}' 2>/dev/null |
        sed -n "s/^\($argv[1]\|any\|-\)\t//p" | grep -v '^-:'
end
complete -c xenmsg -n 'not __fish_seen_subcommand_from (__xenmsg_commands)' -f -a '(__xenmsg_commands)'
complete -c xenmsg -n '__fish_seen_subcommand_from help' -f -a '(__xenmsg_commands)'
complete -c xenmsg -n '__fish_seen_subcommand_from (__xenmsg_commands); and string match -q -- "-*" (commandline -ct)' -a '(__xenmsg_options)'
complete -c xenmsg -n '__fish_seen_subcommand_from send' -a '(__xenmsg_addresses message)'
complete -c xenmsg -n '__fish_seen_subcommand_from call' -a '(__xenmsg_addresses call)'
complete -c xenmsg -n '__fish_seen_subcommand_from connect run' -a '(__xenmsg_addresses stream)'
complete -c xenmsg -n '__fish_seen_subcommand_from ping bench doctor endpoints watch policy' -f -a '(__xenmsg_domains)'
complete -c xenmsg -n '__fish_seen_subcommand_from policy' -f -a 'check show denied reload'
complete -c xenmsg -n '__fish_seen_subcommand_from peers' -f -a '(__xenmsg_hosts)'
complete -c xenmsg -n '__fish_seen_subcommand_from endpoints watch' -f -a '(__xenmsg_hosts | sed "s,\$,/,")'
