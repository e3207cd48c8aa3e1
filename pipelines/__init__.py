"""What is computed: one file for each DVC stage, and the commands that change the world (register, promote,
package, serve)."""
