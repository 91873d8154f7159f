import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  optimizeDeps: { exclude: ["wav2small"] }, // so that `vite dev` finds the files beside wav2small.js
});
