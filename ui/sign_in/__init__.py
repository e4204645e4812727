"""The pages of getting in and out: plain HTML from the server, without a script, so that nothing of the workstation is
loaded before somebody is signed in."""
