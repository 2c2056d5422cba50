# Makes of the configuration that says nothing the one of the package: where the data is, and who decides where the service listens.
NR == 1 {
  print "# The service, and commands that root starts, read this file. The service reads it again at: systemctl reload llm-firecracker"
  print "# It listens where its socket unit says, and not where api.host and api.port say: systemctl edit llm-firecracker.socket"
  print "#"
}
/^#directory = / { print "directory = \"/var/lib/llm-firecracker\""; changed++; next }
{ print }
END { if (changed != 1) { print "the configuration has no data.directory" > "/dev/stderr"; exit 1 } }
