// The page behind a reset link: sets a new password.
import { linkPage } from '../http/link-page.js';

export const resetPage = linkPage({
  title: 'Set a new password',
  intro:
    'All sessions, API keys and machine tokens of your account end with it; then sign in with the new password.',
  fields: `<label for="password">New password</label>
<input id="password" name="password" type="password" autocomplete="new-password" minlength="12" maxlength="256" required
 autofocus aria-describedby="password-note">
<small id="password-note">At least 12 characters; a sentence is best.</small>
<label for="again">New password, once more</label>
<input id="again" name="again" type="password" autocomplete="new-password" maxlength="256" required>`,
  submit: 'Set the password',
  call: 'api/v1/auth/reset',
  doneTitle: 'Your password is set',
  doneText: 'This link no longer works. Sign in with the new password.',
});
