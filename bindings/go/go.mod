module xenmsg

go 1.19
