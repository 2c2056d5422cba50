print("a sitecustomize of the job directory must not run")
